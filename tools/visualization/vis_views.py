#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Draw what a method sees of pictures of its training set, augmented as there.

ConMIM: the view of the online encoder, the same masked, the view of the momentum encoder.
CorrIM: the context, and of each exemplar its crop and its region in the context; with a
checkpoint also the region that the model finds, red where it is sure.
BEiT, SimMIM, MAE: the picture and the same masked; BEiT also the decoded tokens.
MoCo v3: the two crops. (CIM has a tool of its own, vis_cim.py.)

Example: ``python tools/visualization/vis_views.py CONFIG --out views.png``
"""

import argparse
from collections.abc import Sequence

from mmengine.registry import init_default_scope
from mmengine.runner import Runner, set_random_seed
from mmpretrain.registry import MODELS

from mmcim.checkpoints import load_checkpoint
from mmcim.utils import (
    ConfigError,
    add_cfg_options,
    explain_build_errors,
    load_config,
    run_cli,
)
from mmcim.visualization import save_grid, view_panels

METHODS = (
    'ConMIM',
    'CorrIM',
    'BEiTBaseline',
    'MAEBaseline',
    'SimMIMBaseline',
    'MoCoV3Baseline',
)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a pre-training')
    parser.add_argument('--checkpoint', help='its checkpoint, to see what it finds')
    parser.add_argument('--out', default='views.png', help='picture to write')
    parser.add_argument('--num', type=int, default=4, help='number of pictures')
    parser.add_argument('--seed', type=int, default=0, help='of all that is drawn')
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if cfg.model.type not in METHODS:
        raise ConfigError(
            f'{args.config} has a {cfg.model.type}; this tool shows '
            f'{", ".join(METHODS)}, and tools/visualization/vis_cim.py shows CIM'
        )
    with explain_build_errors(cfg, 'model'):
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        if args.checkpoint:
            model.load_state_dict(load_checkpoint(args.checkpoint)['state_dict'])
    set_random_seed(args.seed)
    with explain_build_errors(cfg, 'train_dataloader'):
        loader = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0})
    chosen = range(min(args.num, len(loader.dataset)))
    batch = loader.collate_fn([loader.dataset[i] for i in chosen])
    inputs = model.eval().data_preprocessor(batch, training=True)['inputs']
    save_grid(view_panels(model, inputs, predict=args.checkpoint is not None), args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_cli(main)

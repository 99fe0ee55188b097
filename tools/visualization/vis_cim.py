#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Draw what a pre-trained CIM does to pictures of its training set.

Columns: original, tokenizer's reconstruction, mask, corrupted, and restored (ResPix) or
replaced and detected (RevDet).

Example: ``python tools/visualization/vis_cim.py CONFIG CHECKPOINT --out grid.png``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.registry import MODELS

from mmcim.checkpoints import load_checkpoint
from mmcim.engine.seeding import seed_generators
from mmcim.models.selfsup import CIM, RevDet
from mmcim.utils import (
    ConfigError,
    add_cfg_options,
    explain_build_errors,
    load_config,
    run_cli,
)
from mmcim.visualization import cim_panels, save_grid


def load_cim(cfg: Config, checkpoint: str | Path) -> CIM:
    """Build the CIM of a config with the weights of its checkpoint, in eval mode."""
    with explain_build_errors(cfg, 'model'):
        model = MODELS.build({'data_preprocessor': cfg.data_preprocessor, **cfg.model})
        model.load_state_dict(load_checkpoint(checkpoint)['state_dict'])
    return model.eval()


def first_pictures(cfg: Config, model: CIM, num: int) -> dict:
    """Give the first pictures of the training set as the model takes them."""
    with explain_build_errors(cfg, 'train_dataloader'):
        loader = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0})
    chosen = range(min(num, len(loader.dataset)))
    batch = loader.collate_fn([loader.dataset[i] for i in chosen])
    return model.data_preprocessor(batch, training=False)


def main(argv: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a CIM pre-training')
    parser.add_argument('checkpoint', help='its checkpoint')
    parser.add_argument(
        '--detector',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a RevDet that looks at the same corrupted images',
    )
    parser.add_argument('--out', default='cim.png', help='image to write')
    parser.add_argument('--num', type=int, default=8, help='number of images')
    parser.add_argument('--seed', type=int, default=0, help='of masks and samples')
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    cfg = load_config(args.config, args.cfg_options)
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    if cfg.model.type != 'CIM' or not cfg.model.get('tokenizer'):
        raise ConfigError(f'{args.config} is no CIM with a tokenizer: nothing to show')
    model = load_cim(cfg, args.checkpoint)
    detector = None
    if args.detector:
        other, checkpoint = args.detector
        detector = load_cim(load_config(other), checkpoint).enhancer
        if not isinstance(detector, RevDet):
            raise ConfigError(f'--detector: {other} is no CIM-RevDet')
    seed_generators(args.seed)
    inputs = first_pictures(cfg, model, args.num)
    panels, captions = cim_panels(model, detector=detector, **inputs)
    save_grid(panels, args.out, captions=captions)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_cli(main)

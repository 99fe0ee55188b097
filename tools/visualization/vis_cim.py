#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Draw what a method sees and predicts of images of its training set.

They are augmented as in training. Columns:

CIM: original, tokenizer's reconstruction, mask, corrupted, and restored (ResPix) or
replaced and detected (RevDet).
ConMIM: the image of the online encoder, the same masked, that of the momentum encoder.
CorrIM: the context, and of each exemplar its crop and its region in the context; with a
checkpoint also the region that the model finds, red where it is sure.
BEiT, SimMIM, MAE: the image and the same masked; BEiT also the decoded tokens.
MoCo v3: the two crops.

Example: ``python tools/visualization/vis_cim.py CONFIG CHECKPOINT --out grid.png``
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import Runner
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS

from mmcim.checkpoints import read_weights
from mmcim.engine.checks import check_same_model
from mmcim.engine.seeding import seed_generators
from mmcim.models.selfsup import CIM, RevDet
from mmcim.utils import add_cfg_options, explain_build_errors, load_config, run_cli
from mmcim.visualization import cim_panels, save_grid, view_panels


def load_model(cfg: Config, checkpoint: str | Path | None) -> BaseSelfSupervisor:
    """Build a method with the weights of its checkpoint, in eval mode.

    Raises:
        ConfigError: If the checkpoint is not of this model, or there is nothing to show.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    preprocessor = cfg.get('data_preprocessor')
    with explain_build_errors(cfg, 'model'):
        model = MODELS.build({'data_preprocessor': preprocessor, **cfg.model})
        if not isinstance(model, BaseSelfSupervisor):
            raise ValueError(f'{type(model).__name__} is no pre-training')
        if getattr(model, 'tokenizer', model) is None:
            raise ValueError('without a tokenizer there is nothing to show')
    if checkpoint:
        tensors = read_weights(checkpoint).tensors
        check_same_model(model, tensors, str(checkpoint))
        model.load_state_dict(tensors)
    return model.eval()


def first_images(cfg: Config, num: int) -> dict:
    """The first images of the training set, as the loader gives them."""
    with explain_build_errors(cfg, 'train_dataloader'):
        loader = Runner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0})
    chosen = range(min(num, len(loader.dataset)))
    return loader.collate_fn([loader.dataset[i] for i in chosen])


def main(argv: Sequence[str] | None = None) -> None:
    """Draw."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('config', help='config file of a pre-training')
    parser.add_argument(
        'checkpoint', nargs='?', help='its checkpoint; random weights if omitted'
    )
    parser.add_argument(
        '--detector',
        nargs=2,
        metavar=('CONFIG', 'CHECKPOINT'),
        help='a CIM-RevDet that looks at the same corrupted images as this CIM',
    )
    parser.add_argument('--out', default='images.png', help='image to write')
    parser.add_argument('--num', type=int, default=8, help='number of images')
    parser.add_argument('--seed', type=int, default=0, help='of all that is drawn')
    add_cfg_options(parser)
    args = parser.parse_args(argv)

    seed_generators(args.seed)
    cfg = load_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint)
    batch = first_images(cfg, args.num)
    data = model.data_preprocessor(batch, training=True)
    if isinstance(model, CIM):
        detector = None
        if args.detector:
            other, checkpoint = args.detector
            found = load_model(load_config(other), checkpoint)
            detector = getattr(found, 'enhancer', None)
            if not isinstance(detector, RevDet):
                parser.error(f'--detector: {other} is no CIM-RevDet')
        panels = cim_panels(model, data['inputs'], detector=detector)
    else:
        panels = view_panels(model, data['inputs'], predict=args.checkpoint is not None)
    save_grid(panels, args.out)
    print(f'wrote {args.out}')


if __name__ == '__main__':
    run_cli(main)

# Copyright (c) mmcim contributors. All rights reserved.
"""Draw what a method sees and predicts of images of its training set.

They are augmented as in training. Columns:

CIM: original, tokenizer's reconstruction, mask, corrupted, and target, predicted and
restored (ResPix) or replaced and detected (RevDet).
BEiT: original, mask, tokenizer's reconstruction, and the same with predicted tokens.
MAE, SimMIM: original, mask, and restored, or, where MAE's targets are normalised, target
and predicted.
ConMIM: the image of the online encoder, the same masked, a masked patch, the momentum
encoder's image, and how similar that patch is to each of its patches.
CorrIM: the context, and of three exemplars the crop, its region in the context, and
where the model finds it.
MoCo v3: the two crops. Tokenizer training: original and reconstruction.

Predicted pixels stand with their PSNR and that of a prediction of zeros.

Example: mmcim show CONFIG CHECKPOINT --out grid.png
"""

import argparse
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import nn

from ..checkpoints import read_weights
from ..engine import StrictRunner
from ..engine.checks import check_same_inputs, check_same_model
from ..engine.seeding import fixed_batch, seed_generators
from ..models.selfsup import CIM, RevDet
from ..utils import ConfigError, check_keys, explain_build_errors, load_config
from ..visualization import draw_panels, make_panels, save_image


def run(args: argparse.Namespace) -> None:
    """Draw.

    Args:
        args: The command line.

    Raises:
        ConfigError: If a config or checkpoint does not fit.
    """
    seed_generators(args.seed)  # of random weights
    cfg = load_config(args.config, args.cfg_options)
    model = load_model(cfg, args.checkpoint)
    with explain_build_errors(cfg, 'train_dataloader'):
        loader = StrictRunner.build_dataloader({**cfg.train_dataloader, 'num_workers': 0})
    batch = fixed_batch(loader, args.num, args.seed)
    seed_generators(args.seed)
    options = {}
    if args.detector:
        other, checkpoint = args.detector
        found = load_model(load_config(other), checkpoint)
        options['detector'] = getattr(found, 'enhancer', None)
        if not isinstance(model, CIM) or not isinstance(options['detector'], RevDet):
            raise ConfigError(f'--detector: CIM takes a CIM-RevDet, {other} is none')
    with torch.no_grad():
        inputs = model.data_preprocessor(batch, training=True)['inputs']
        images, legend = make_panels(model, inputs, **options)
    weights = Path(args.checkpoint).name if args.checkpoint else 'random weights'
    title = f'{type(model).__name__}, {weights}'
    save_image(draw_panels(images, title, legend), args.out)
    print(f'wrote {args.out}')


def build_model(cfg: Config, *kinds: type[nn.Module]) -> Any:
    """Build the model of a config.

    Args:
        cfg: The complete config.
        kinds: Classes, of one of which the model has to be.

    Raises:
        BuildError: If the model rejects its arguments, or is of no such class.
    """
    init_default_scope(cfg.get('default_scope', 'mmpretrain'))
    preprocessor = cfg.get('data_preprocessor')
    check_keys(cfg)
    with explain_build_errors(cfg, 'model'):
        model = MODELS.build({'data_preprocessor': preprocessor, **cfg.model})
        if not isinstance(model, kinds):
            wanted = ' or '.join(kind.__name__ for kind in kinds)
            raise ValueError(f'expected {wanted}, got {type(model).__name__}')
    return model


def load_model(cfg: Config, checkpoint: str | Path | None) -> BaseSelfSupervisor:
    """Build a method with the weights of its checkpoint, in eval mode.

    Raises:
        ConfigError: If the checkpoint is not of this model.
    """
    model = build_model(cfg, BaseSelfSupervisor)
    if checkpoint:
        file = read_weights(checkpoint)
        check_same_model(model, file.tensors, str(checkpoint))
        check_same_inputs(model, file.meta, str(checkpoint), cfg.get('override', False))
        model.load_state_dict(file.tensors)
    return model.eval()

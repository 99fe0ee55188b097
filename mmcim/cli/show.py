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

Example: mmcim show CONFIG CHECKPOINT --out grid.png
"""

import argparse
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmpretrain.models.selfsup import BaseSelfSupervisor
from mmpretrain.registry import MODELS
from torch import nn

from ..checkpoints import read_weights
from ..engine import StrictRunner
from ..engine.checks import check_same_inputs, check_same_model
from ..engine.seeding import seed_generators
from ..models.selfsup import CIM, RevDet
from ..utils import ConfigError, check_keys, explain_build_errors, load_config
from ..visualization import cim_panels, save_grid, view_panels


def run(args: argparse.Namespace) -> None:
    """Draw.

    Args:
        args: The command line.

    Raises:
        ConfigError: If a config or checkpoint does not fit.
    """
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
                raise ConfigError(f'--detector: {other} is no CIM-RevDet')
        panels = cim_panels(model, data['inputs'], detector=detector)
    else:
        panels = view_panels(model, data['inputs'], predict=args.checkpoint is not None)
    save_grid(panels, args.out)
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
        ConfigError: If the checkpoint is not of this model, or there is nothing to show.
    """
    model = build_model(cfg, BaseSelfSupervisor)
    if getattr(model, 'tokenizer', model) is None:
        raise ConfigError('model: without a tokenizer there is nothing to show')
    if checkpoint:
        file = read_weights(checkpoint)
        check_same_model(model, file.tensors, str(checkpoint))
        check_same_inputs(model, file.meta, str(checkpoint), cfg.get('override', False))
        model.load_state_dict(file.tensors)
    return model.eval()


def first_images(cfg: Config, num: int) -> dict:
    """The first images of the training set, as the loader gives them."""
    with explain_build_errors(cfg, 'train_dataloader'):
        config = {**cfg.train_dataloader, 'num_workers': 0}
        loader = StrictRunner.build_dataloader(config)
    # Drawn from the seed of the command line.
    dataset = loader.dataset.dataset  # type: ignore[attr-defined]
    chosen = range(min(num, len(dataset)))
    return loader.collate_fn([dataset[i] for i in chosen])

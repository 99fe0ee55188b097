# Copyright (c) mmcim contributors. All rights reserved.
"""Models and batches of a config without its files: random weights, images of noise."""

from typing import Any

import torch
from mmcv.transforms import Compose
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import FUNCTIONS
from mmpretrain.models import BaseSelfSupervisor, ImageClassifier
from torch import nn
from torch.utils.data import DataLoader

from ..engine.activation_checkpointing import checkpoint_activations
from ..models.tokenizers import DALLETokenizer
from ..models.tokenizers.dalle import _Decoder, _Encoder
from ..utils import explain_build_errors
from .show import build_model


class RandomDALLETokenizer(DALLETokenizer):
    """OpenAI's dVAE in its full size, with random weights."""

    _has_encoded = True  # nobody learns from its ids

    def _load(self, checkpoint: str) -> Any:
        sizes = dict(n_hid=256, n_blocks=2, vocab_size=8192)
        parts = dict(encoder=_Encoder(**sizes), decoder=_Decoder(**sizes, n_init=128))
        self.identity = dict(type='DALLETokenizer', source='random', sha256='')
        found = nn.ModuleDict(parts).state_dict()
        scaled = {k: torch.randn_like(t) * t[0].numel() ** -0.5 for k, t in found.items()}
        return self.build(scaled, checkpoint)


def needs_no_file(cfg: Config) -> None:
    """Replace what needs a file of weights: they change no speed, and may be missing."""
    if cfg.model.get('backbone'):
        cfg.model.backbone.init_cfg = None
    if (tokenizer := cfg.model.get('tokenizer') or {}).get('type') == 'DALLETokenizer':
        tokenizer.update(type=RandomDALLETokenizer, checkpoint='random')


def build(cfg: Config) -> BaseModel:
    """Build and initialise a config's model.

    Args:
        cfg: The complete config; what needs a file of weights is replaced in it.

    Returns:
        The model, in training mode.

    Raises:
        ConfigError: If the model rejects its arguments, or it is neither a pre-training
            nor a classifier.
    """
    needs_no_file(cfg)
    model = build_model(cfg, BaseSelfSupervisor, ImageClassifier)
    model.init_weights()
    with explain_build_errors(cfg, 'activation_checkpointing'):
        checkpoint_activations(model, cfg.get('activation_checkpointing') or ())
    return model.train()


def innermost_dataset(cfg: Config) -> Config:
    """The config of the dataset that is trained on, without what wraps it."""
    dataset = cfg.train_dataloader.dataset
    while 'dataset' in dataset:
        dataset = dataset.dataset
    return dataset


def synthetic_batch(cfg: Config, batch_size: int) -> dict:
    """Make what the loader would give to the data preprocessor, from noise.

    Args:
        cfg: The complete config.
        batch_size: Images, all of class 0.

    Returns:
        ``inputs``, uint8, and ``data_samples``.
    """
    dataset = innermost_dataset(cfg)
    pipeline = Compose(dataset.pipeline)
    # Digits come in the size that is asked for, and loaders leave such an array alone.
    side = dataset.get('size', 256)
    shape = dict(img_shape=(side, side), ori_shape=(side, side))
    images = torch.randint(256, (batch_size, side, side, 3), dtype=torch.uint8).numpy()
    samples: Any = [pipeline(dict(img=image, gt_label=0, **shape)) for image in images]
    collate = FUNCTIONS.get(cfg.train_dataloader.collate_fn.type)
    pin = torch.cuda.is_available()
    return next(iter(DataLoader(samples, batch_size, collate_fn=collate, pin_memory=pin)))

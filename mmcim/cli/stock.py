# Copyright (c) mmcim contributors. All rights reserved.
"""What mmpretrain and OpenAI have in place of mmcim's parts, to compare the speed."""

from copy import deepcopy

import torch
import torch.nn.functional as F
from mmengine.config import Config
from torch import Tensor

from ..models.tokenizers import BaseTokenizer
from ..models.tokenizers.base import freeze
from ..utils.errors import ConfigError


class StockTokenizer(BaseTokenizer):
    """OpenAI's discrete VAE as the ``dall-e`` package has it, with random weights."""

    stride = 8
    vocab_size = 8192
    _has_encoded = True  # nobody learns from its ids

    def __init__(self) -> None:
        super().__init__()
        try:
            import dall_e
        except ImportError as error:
            raise ConfigError('--against stock needs: pip install DALL-E') from error
        self.package = dall_e
        self.encoder, self.decoder = dall_e.Encoder(), dall_e.Decoder()
        freeze(self)

    def _encode(self, images: Tensor) -> Tensor:
        return self.encoder(self.package.map_pixels(images)).argmax(1)

    def _decode(self, ids: Tensor) -> Tensor:
        one_hot = F.one_hot(ids, self.vocab_size).permute(0, 3, 1, 2).float()
        pixels = self.decoder(one_hot).float()[:, :3].sigmoid()
        return self.package.unmap_pixels(pixels)


def stock_config(cfg: Config) -> Config:
    """Replace the parts that mmcim has made.

    Args:
        cfg: Of CIM with OpenAI's tokenizer.

    Returns:
        A copy with OpenAI's tokenizer, mmpretrain's BEiT as the generator's backbone, and
        mmengine's optimizer wrapper, in bfloat16 on a GPU and in float32 on a CPU. The
        rest is as it was: images, masks, enhancer, losses.

    Raises:
        ConfigError: If it is another method or tokenizer.
    """
    cfg = deepcopy(cfg)
    model, wrapper = cfg.model, cfg.optim_wrapper
    if (model.get('tokenizer') or {}).get('type') != 'DALLETokenizer':
        raise ConfigError('--against stock takes configs of CIM with a DALLETokenizer')
    model.tokenizer = dict(type=StockTokenizer)
    model.generator.backbone.type = 'mmpretrain.BEiTPretrainViT'
    wrapper.type = 'OptimWrapper'
    wrapper.pop('precision', None)
    if torch.cuda.is_available():
        wrapper.update(type='AmpOptimWrapper', dtype='bfloat16')
    return cfg


def stock_pipeline(pipeline: list[dict]) -> list[dict]:
    """Take mmpretrain's resizing, by Pillow, and its augmentation."""
    stock = []
    for transform in pipeline:
        kind = transform['type'].removeprefix('Antialiased')
        changes: dict = {'backend': 'pillow'} if kind != transform['type'] else {}
        if kind == 'MultiView':
            changes = dict(transforms=[*map(stock_pipeline, transform['transforms'])])
        stock.append({**transform, **changes, 'type': kind.removeprefix('Fast')})
    return stock

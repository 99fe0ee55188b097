# Copyright (c) mmcim contributors. All rights reserved.
"""Features of backbones that are exported and loaded again."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from mmengine.registry import DefaultScope
from mmpretrain.registry import MODELS

from mmcim.apis import load_backbone

from ..backbone_files import write_backbone
from .deterministic import fill, images
from .methods import PER_LAYER, SIZE, resnet, vit
from .store import rounded

SIZES = ((SIZE, SIZE), (48, 40))  # the backbone's own, and a larger rectangle
NUM_ENTRIES = 10

ABSOLUTE = dict(
    use_abs_pos_emb=True, use_rel_pos_bias=False, use_shared_rel_pos_bias=False
)
SHARED = dict(use_rel_pos_bias=False, use_shared_rel_pos_bias=True)
BACKBONES = {
    'vit': vit(out_type='featmap'),
    'vit_class_token': vit(out_type='cls_token'),
    'beit_shared_bias': vit('FusedBEiTViT', **SHARED),
    'beit_bias_per_layer': vit('FusedBEiTViT', out_type='featmap'),
    'beit_absolute_positions': vit('FusedBEiTViT', out_type='raw', **ABSOLUTE),
    'resnet': resnet(),
    # Loaded as encoders of whole images.
    'masked_beit_shared_bias': vit('FusedBEiTPretrainViT'),
    'masked_beit_bias_per_layer': vit('FusedBEiTPretrainViT', **PER_LAYER),
    'mae': vit('MAEBaselineViT', mask_ratio=0.75),
    'fixed_positions': vit('FixedPositionViT', out_type='raw', stop_grad_conv1=True),
}


def measure_all() -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        return {name: measure(name, Path(folder)) for name in BACKBONES}


@torch.no_grad()
def measure(name: str, folder: Path) -> dict[str, Any]:
    """Export a backbone, load it and encode images of two sizes.

    Returns:
        dict: Per size ``shape``, ``mean``, ``std`` and ten ``entries`` of the features.
    """
    config = BACKBONES[name]
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(dict(config))
    fill(backbone)
    path = folder / f'{name}_backbone.safetensors'
    write_backbone(path, backbone.state_dict(), config)
    backbone = load_backbone(path)
    found = {}
    for height, width in SIZES:
        batch = images('features', 2, height)[..., :width].float() / 127.5 - 1
        features = backbone(batch)[-1]
        flat = features.double().flatten()
        entries = flat[torch.linspace(0, len(flat) - 1, NUM_ENTRIES).long()]
        found[f'{height}x{width}'] = dict(
            shape=list(features.shape),
            mean=rounded(flat.mean().item()),
            std=rounded(flat.std().item()),
            entries=[rounded(value) for value in entries.tolist()],
        )
    return found

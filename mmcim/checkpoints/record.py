# Copyright (c) mmcim contributors. All rights reserved.
"""What a training writes about the backbone that it exports."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import MODELS as ROOT
from mmengine.utils import get_object_from_string
from mmpretrain.registry import MODELS
from safetensors.torch import save
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..utils.arguments import keyword_arguments
from ..utils.files import atomic_write
from ..utils.nested import walk
from .layout import Grid, is_derived, normalization, patch_grid

# Backbones that mask images, or freeze some of their parameters, and those with the same
# tensors and features that take whole images of any size and train all.
_AFTER_PRETRAINING = {
    'FusedBEiTPretrainViT': 'FusedBEiTViT',
    'BEiTPretrainViT': 'FusedBEiTViT',
    'FixedPositionViT': 'VisionTransformer',
    'MoCoV3ViT': 'VisionTransformer',
    'MAEBaselineViT': 'VisionTransformer',
    'MAEViT': 'VisionTransformer',
}
# What changes the features of a module, but none of its shapes.
_FUNCTION = ('num_heads', 'eps', 'style', 'approximate')
_TRAINING_ONLY = ('Dropout', 'DropPath', 'Identity')


@dataclass
class BackboneRecord:
    """What is known about an exported backbone; JSON in ``.pth`` and ``.safetensors``.

    Attributes:
        config: Builds the network for use after its training.
        sha256: Of the backbone's tensors, see :func:`tensors_sha256`.
        prefix: What the names of its tensors begin with in this file.
        function: What its features depend on besides config and tensors, see
            :func:`describe_function`.
        grid: Rows and columns of patches.
        mean: Of R, G and B of its input, on the scale 0..255; empty if unknown, or if it
            sees BGR.
        std: Likewise.
        origin: Where it came from: ``method``, ``epoch`` or ``iter``,
            ``tokenizer_sha256``.
    """

    config: dict
    sha256: str
    prefix: str = ''
    function: dict[str, Any] = field(default_factory=dict)
    grid: Grid | None = None
    mean: list[float] = field(default_factory=list)
    std: list[float] = field(default_factory=list)
    origin: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.grid = self.grid and (self.grid[0], self.grid[1])  # JSON has lists

    def dumps(self) -> str:
        """Give the record as JSON; ``BackboneRecord(**json.loads(text))`` reads it."""
        # What is no plain value becomes text, which no file may build a network of.
        return json.dumps(asdict(self), default=str)


def backbone_path(checkpoint: str | Path) -> Path:
    """Path of the backbone beside a checkpoint: ``epoch_1_backbone.safetensors``."""
    path = Path(checkpoint)
    return path.with_name(f'{path.stem}_backbone.safetensors')


def save_backbone(
    path: str | Path, tensors: Mapping[str, Tensor], record: BackboneRecord
) -> None:
    """Write a backbone completely or not at all.

    Args:
        path: The ``.safetensors`` file to write or replace.
        tensors: The backbone's own names -> tensors.
        record: What is known about them.
    """
    text = replace(record, prefix='').dumps()
    save_safetensors(path, tensors, dict(format='pt', backbone=text))


def save_safetensors(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write tensors, which may be views and share memory, completely or not at all."""
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(plain, dict(metadata)))


def describe_backbone(
    model: nn.Module, prefix: str, tensors: Mapping[str, Tensor], cfg: Config
) -> BackboneRecord | None:
    """Describe the backbone of a model that is being trained.

    Args:
        model: The model, not wrapped.
        prefix: Its backbone's, see :func:`mmcim.checkpoints.layout.backbone_prefix`.
        tensors: What is saved of the backbone, by its own names.
        cfg: The runner's config.

    Returns:
        None if the backbone came as an object, so that no config builds it.
    """
    config = find_backbone_config(cfg, prefix)
    if config is None:
        return None
    backbone = model.get_submodule(prefix.rstrip('.'))
    preprocessor = getattr(model, 'data_preprocessor', None)
    # mmpretrain's of classifiers have the one, mmengine's and those made of it the other.
    rgb = ('to_rgb', '_channel_conversion')
    known = normalization(model)
    # The order of channels does not matter where all have the same statistics.
    grey = all(values and len({*values}) == 1 for values in known.values())
    if not grey and not any(getattr(preprocessor, name, False) for name in rgb):
        known = {}
    return BackboneRecord(
        config=config,
        sha256=tensors_sha256(tensors),
        prefix=prefix,
        function=describe_function(backbone),
        grid=patch_grid(backbone),
        mean=known.get('mean') or [],
        std=known.get('std') or [],
        origin=dict(method=type(model).__name__),
    )


def describe_function(backbone: nn.Module) -> dict[str, Any]:
    """List what changes the features of a network, but no tensor's name or shape.

    Returns:
        Dotted name -> number of heads, eps or kind of activation or norm.
    """
    found = {}
    for name, module in backbone.named_modules():
        values = {key: getattr(module, key, None) for key in _FUNCTION}
        weight = getattr(module, 'weight', None)
        matrix = weight is not None and weight.ndim > 1
        # Networks differ in classes of the same layer, but hardly in those of its parts.
        kind = type(module).__name__
        if not (matrix or [*module.children()] or kind in _TRAINING_ONLY):
            # Batch norm is the same of any dimension, synchronised or not.
            values['type'] = 'BatchNorm' if isinstance(module, _BatchNorm) else kind
        for key, value in values.items():
            if isinstance(value, int | float | str):
                found[f'{name}.{key}'] = value
    return found


def find_backbone_config(cfg: Config, prefix: str) -> dict | None:
    """Find the config of a backbone for use after its training.

    A copy that the model makes of its own backbone, as a momentum encoder is, has no
    config there; that of ``model.backbone`` builds it. A network that masks its images,
    or freezes some parameters, is replaced by the one with the same features that does
    neither.

    Returns:
        None if the model came as an object.
    """
    parts = dict(walk(cfg.to_dict().get('model')))
    found = (parts.get(key) for key in (prefix.rstrip('.'), 'backbone'))
    config = next((part for part in found if isinstance(part, dict)), None)
    if config is None:
        return None
    # The weights are in the file, not where the training once began.
    config = _with_names({k: v for k, v in config.items() if k != 'init_cfg'})
    scope = cfg.get('default_scope') or 'mmpretrain'
    if '.' not in config['type'] and scope != 'mmpretrain':
        config['type'] = f'{scope}.{config["type"]}'
    return config_after_pretraining(config)


def _with_names(node: Any, key: str = '') -> Any:
    """Replace classes and paths, as pure-Python configs have, by registered names."""
    if isinstance(node, dict):
        return {name: _with_names(value, name) for name, value in node.items()}
    if isinstance(node, list | tuple):
        return [_with_names(item) for item in node]
    if key == 'type' and isinstance(node, str) and node.count('.') > 1:
        node = get_object_from_string(node)
    for registry in (ROOT, *ROOT.children.values()) if isinstance(node, type) else ():
        for name, cls in registry.module_dict.items():
            if cls is node:
                return name if registry is ROOT else f'{registry.scope}.{name}'
    return node


def config_after_pretraining(config: dict) -> dict:
    """Give the config of the network with the same features of whole images.

    It has the same tensors, but for a mask token. Unchanged if it is no network that
    only a pre-training has.
    """
    name = config['type'].removeprefix('mmpretrain.')
    if name not in _AFTER_PRETRAINING:
        return config
    before, kind = MODELS.get(name), _AFTER_PRETRAINING[name]
    after = keyword_arguments(MODELS.get(kind))
    if config.get('arch') in ('mocov3-s', 'mocov3-small'):
        config = config | dict(arch=before.arch_zoo[config['arch']])  # it alone has them
    defaults = {key: part.default for key, part in keyword_arguments(before).items()}
    return dict(type=kind) | {
        key: config.get(key, defaults.get(key))
        for key, parameter in after.items()
        if key in config or defaults.get(key, parameter.default) != parameter.default
    }


def tensors_sha256(tensors: Mapping[str, Tensor]) -> str:
    """Hash tensors independent of their order, layout in memory and file format.

    Args:
        tensors: Name -> tensor. Those that follow from a network's size do not count.

    Returns:
        The SHA-256, in hex, of every name, dtype, shape and the bytes in row-major
        order, sorted by name.
    """
    digest = hashlib.sha256()
    for name in sorted(name for name in tensors if not is_derived(name)):
        tensor = tensors[name].detach().cpu().contiguous()
        head = [name, str(tensor.dtype), list(tensor.shape)]
        digest.update(json.dumps(head).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()

# Copyright (c) mmcim contributors. All rights reserved.
"""A trained backbone: its tensors, and the config that builds its network.

Both are in the plain backbone that stands beside each checkpoint, and in the checkpoint
itself, there as the text of the training's config. That text is Python, which is read
here as data: nothing in it is executed.
"""

import ast
import hashlib
import inspect
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmpretrain.registry import MODELS
from torch import Tensor, nn

from ..utils.checkpoint import load_checkpoint
from ..utils.errors import ConfigError
from .after_pretraining import config_after_pretraining
from .backbone_file import read_backbone
from .metadata import backbone_config, normalization_metadata
from .trusted import registered_class, trusted_backbone_config


@dataclass
class TrainedBackbone:
    """What :func:`open_backbone` gives.

    Attributes:
        path (str): The file.
        tensors (dict[str, Tensor]): The backbone's own names -> tensors, on the CPU.
        config (dict): Builds the network for use after a pre-training.
        metadata (dict[str, str]): See :func:`mmcim.transfer.save_backbone`.

    Raises:
        ConfigError: If the config is not one that a file of weights may have, see
            :func:`mmcim.transfer.trusted.trusted_backbone_config`.
    """

    path: str
    tensors: dict[str, Tensor]
    config: dict
    metadata: dict[str, str]

    def __post_init__(self) -> None:
        self.config = trusted_backbone_config(self.config, self.path)

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """Mean and std of R, G and B, on the scale 0..1; None if the file lacks them."""
        if not {'mean', 'std'} <= self.metadata.keys():
            return None
        mean, std = (json.loads(self.metadata[key]) for key in ('mean', 'std'))
        # 57.12 / 255 is not quite 0.224.
        return tuple([round(value / 255, 8) for value in part] for part in (mean, std))

    def build(self, **overrides: Any) -> nn.Module:
        """Build the network without its weights.

        Args:
            **overrides: Arguments in place of the config's, such as ``img_size``.

        Returns:
            nn.Module: In evaluation mode.

        Raises:
            ConfigError: If the config does not build a backbone.
        """
        # Whatever the default scope is, as mmseg in a segmentor.
        config = {'_scope_': 'mmpretrain', **self.config, **overrides}
        # The weights come from this file, not from where the training once began.
        config.pop('init_cfg', None)
        try:
            net = MODELS.build(config)
        except Exception as error:  # whatever a foreign constructor raises
            raise ConfigError(
                f'{self.path}: its backbone {config} cannot be built: {error}'
            ) from error
        net.train(False)  # eval() of mmpretrain's backbones returns None
        return net


def forward_unmasked(net: nn.Module, images: Tensor) -> Tensor:
    """Give the last features of whole pictures, also from a network that takes masks.

    Args:
        net (nn.Module): A backbone.
        images (Tensor): Normalised pictures, (B, 3, H, W).

    Returns:
        Tensor: Of the last stage that the backbone gives.
    """
    masked = 'mask' in inspect.signature(net.forward).parameters
    features = net(images, mask=None) if masked else net(images)
    return features if isinstance(features, Tensor) else features[-1]


def open_backbone(path: str | Path, prefix: str | None = None) -> TrainedBackbone:
    """Read a backbone with its config.

    A network that masks its pictures, or fixes some parameters, in its pre-training is
    opened as the one with the same features that does neither.

    Args:
        path (str | Path): A plain backbone (``epoch_1_backbone.safetensors``) or a
            training checkpoint (``epoch_1.pth``) of a classifier, segmentor or
            pre-training.
        prefix (str, optional): What the names of another backbone in the checkpoint begin
            with. Defaults to that of the one that is kept after training.

    Returns:
        TrainedBackbone: Tensors, config and what else is known.

    Raises:
        ConfigError: If the file is missing, damaged or does not say what it is of, or
            has no tensors with the prefix.
    """
    try:
        return _open(path, prefix)
    except ConfigError:
        raise
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        raise ConfigError(
            f'{path}: what it says about its network cannot be read: {error!r}'
        ) from error


def _open(path: str | Path, prefix: str | None) -> TrainedBackbone:
    if Path(path).suffix == '.safetensors':
        if prefix:
            raise ConfigError(
                f'{path} has no prefixes; give the checkpoint that it stands beside'
            )
        tensors, metadata = read_backbone(path)
        config = json.loads(metadata['backbone'])
        source = TrainedBackbone(str(path), tensors, config, metadata)
    else:
        source = _from_training(str(path), load_checkpoint(path), prefix)
    source.config = config_after_pretraining(source.config)
    source.metadata['backbone'] = json.dumps(source.config)
    return source


def _from_training(path: str, checkpoint: Any, prefix: str | None) -> TrainedBackbone:
    meta = checkpoint.get('meta') if isinstance(checkpoint, Mapping) else None
    if not isinstance(meta, Mapping) or 'cfg' not in meta:
        raise ConfigError(
            f'{path} does not say of which network its tensors are: it has no '
            "meta['cfg'] as mmengine's training checkpoints have. Load it into a network "
            'of your own by mmcim.transfer.load_backbone_weights'
        )
    cfg = parse_config_text(meta['cfg'], path)
    kept = meta.get('backbone_prefix') or _prefix_of_class(cfg['model'])
    prefix = prefix.rstrip('.') + '.' if prefix else kept
    tensors = {
        name.removeprefix(prefix): value
        for name, value in checkpoint.get('state_dict', {}).items()
        if prefix and name.startswith(prefix)
    }
    if not tensors and prefix != kept:
        raise ConfigError(f'{path} has no tensors with the prefix {prefix!r}')
    if not tensors:
        raise ConfigError(
            f'{path} is of a {cfg["model"].get("type")} and has no backbone that is kept '
            'after training; checkpoints of classifiers, segmentors and pre-trainings do'
        )
    config = backbone_config(Config(cfg), prefix)
    if config is None:
        raise ConfigError(f'{path}: its config has no part {prefix!r} under model')
    metadata = dict(
        method=str(cfg['model'].get('type')),
        config_sha256=hashlib.sha256(meta['cfg'].encode()).hexdigest(),
    )
    metadata |= {key: str(meta[key]) for key in ('epoch', 'iter') if key in meta}
    if meta.get('backbone_grid') and prefix == kept:
        metadata['grid'] = json.dumps(meta['backbone_grid'])
    preprocessor = cfg['model'].get('data_preprocessor') or cfg.get('data_preprocessor')
    mean, std, *to_rgb = map(
        (preprocessor or {}).get, ('mean', 'std', 'to_rgb', 'bgr_to_rgb')
    )
    if mean is not None and std is not None:
        metadata |= normalization_metadata(mean, std, any(to_rgb))
    return TrainedBackbone(path, tensors, config, metadata)


def _prefix_of_class(config: dict) -> str | None:
    """What a checkpoint of another project, or of a tokenizer, does not say itself."""
    return getattr(registered_class(config.get('type')), 'backbone_prefix', 'backbone.')


def parse_config_text(text: str, source: str) -> dict:
    """Read the text of a config, as checkpoints have it, without executing it.

    Args:
        text (str): Assignments of literals and ``dict(...)``.
        source (str): Where it comes from, for errors.

    Returns:
        dict: Name -> value. Assignments of anything else, such as a function or a
        class, are left out.

    Raises:
        ConfigError: If it is no Python text, or has no ``model``.
    """
    cfg = {}
    try:
        statements = ast.parse(text).body
    except (SyntaxError, ValueError, TypeError) as error:
        raise ConfigError(f'{source}: its config cannot be read: {error}') from error
    for statement in statements:
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            try:
                cfg[statement.targets[0].id] = _literal(statement.value)
            except (AttributeError, ValueError):
                continue
    if not isinstance(cfg.get('model'), dict):
        raise ConfigError(f'{source}: its config has no model of plain values')
    return cfg


def _literal(node: ast.expr) -> Any:
    """Value of a literal in which ``dict(key=value)``, inf and nan are allowed, too.

    Raises:
        ValueError: If it is anything else.
    """
    if isinstance(node, ast.Call):
        names = [item.arg for item in node.keywords]
        if getattr(node.func, 'id', None) != 'dict' or node.args or None in names:
            raise ValueError(f'a call in line {node.lineno}')
        return dict(zip(names, (_literal(item.value) for item in node.keywords)))
    if isinstance(node, ast.Dict):
        keys = [ast.literal_eval(key) for key in node.keys]
        return dict(zip(keys, map(_literal, node.values)))
    if isinstance(node, ast.List | ast.Tuple | ast.Set):
        kind = {ast.List: list, ast.Tuple: tuple, ast.Set: set}[type(node)]
        return kind(map(_literal, node.elts))
    if isinstance(node, ast.Name) and node.id in ('inf', 'nan'):
        return getattr(math, node.id)
    if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        return -_literal(node.operand)
    return ast.literal_eval(node)

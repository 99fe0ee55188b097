# Copyright (c) mmcim contributors. All rights reserved.
"""Tensors out of any checkpoint, without unpickling any code."""

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import torch
from mmengine.config import Config
from mmengine.runner import CheckpointLoader
from torch import Tensor

from ..utils.checkpoint import load_checkpoint, safe_globals
from ..utils.errors import ConfigError
from .backbone_file import read_safetensors
from .metadata import backbone_config
from .resize import Grid
from .source import parse_config_text

# Where training programs keep the state dict: mmengine and timm; BEiT, MAE and DeiT;
# DeepSpeed.
_CONTAINERS = ('state_dict', 'model', 'module')


class Weights(NamedTuple):
    """The tensors of a checkpoint and what it tells about its backbone.

    Attributes:
        tensors (dict[str, Tensor]): Name -> tensor.
        prefix (str | None): Prefix of the backbone's names; None if it is not told.
        grid (tuple[int, int] | None): The backbone's rows and columns of patches.
        config (dict | None): What builds the backbone.
    """

    tensors: dict[str, Tensor]
    prefix: str | None
    grid: Grid | None
    config: dict | None


def read_weights(checkpoint: str | Path, map_location: Any = 'cpu') -> Weights:
    """Read the tensors of a checkpoint.

    Args:
        checkpoint (str | Path): A ``.safetensors`` file, a file of ``torch.save``
            (training checkpoint or state dict), or a URL of mmengine's
            ``CheckpointLoader`` such as ``https://`` or ``torchvision://``.
        map_location (Any): See ``torch.load``; safetensors come to the CPU. Defaults to
            'cpu'.

    Returns:
        Weights: The tensors.

    Raises:
        ConfigError: If it is missing, damaged, wants to run code, or holds no tensors.
    """
    checkpoint = os.fspath(checkpoint)
    if checkpoint.endswith('.safetensors') and '://' not in checkpoint:
        tensors, metadata = read_safetensors(checkpoint)
        ours = {'backbone', 'grid'} & metadata.keys()
        try:
            grid = json.loads(metadata.get('grid', 'null'))
            config = json.loads(metadata.get('backbone', 'null'))
            grid = None if grid is None else (int(grid[0]), int(grid[1]))
        except (ValueError, TypeError, LookupError, RecursionError) as error:
            raise ConfigError(
                f'{checkpoint}: what it says about its network cannot be read: {error!r}'
            ) from error
        return Weights(tensors, '' if ours else None, grid, config)
    load = _download if '://' in checkpoint else load_checkpoint
    content = load(checkpoint, map_location)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    meta = meta if isinstance(meta, Mapping) else {}
    prefix, grid = meta.get('backbone_prefix'), meta.get('backbone_grid')
    config = None
    if prefix and 'cfg' in meta:
        # A config of anything but plain values does not keep the weights from loading.
        with suppress(ConfigError):
            cfg = parse_config_text(meta['cfg'], checkpoint)
            config = backbone_config(Config(cfg), prefix)
    tensors = _state_dict(content, checkpoint)
    return Weights(tensors, prefix, grid and tuple(grid), config)


def _state_dict(content: Any, checkpoint: str) -> dict[str, Tensor]:
    if isinstance(content, Mapping):
        container = next((name for name in _CONTAINERS if name in content), None)
        tensors = content[container] if container else content
        if isinstance(tensors, Mapping):
            found = {k: v for k, v in tensors.items() if isinstance(v, Tensor)}
            if found:
                return found
    keys = list(content) if isinstance(content, Mapping) else type(content).__name__
    raise ConfigError(
        f'checkpoint {checkpoint} holds no weights: expected names of tensors, at the '
        f'top or under one of {", ".join(_CONTAINERS)}; found {str(keys)[:200]}'
    )


def _download(url: str, map_location: Any) -> Any:
    """Let mmengine find and download a file, but read it as data."""
    try:
        with weights_only():
            return CheckpointLoader.load_checkpoint(url, map_location)
    except UnpicklingError as error:
        raise ConfigError(
            f'checkpoint {url} holds more than tensors and plain values and was not '
            'loaded, because unpickling it could run any code'
        ) from error
    except Exception as error:  # of network, server, mmengine's lists, or file
        raise ConfigError(f'checkpoint {url} cannot be loaded: {error!r}') from error


@contextmanager
def weights_only() -> Iterator[None]:
    """Make torch.load refuse code although its caller, mmengine or torch, allows it."""
    name = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'
    before = os.environ.get(name)
    os.environ[name] = '1'
    try:
        with torch.serialization.safe_globals(safe_globals()):
            yield
    finally:
        if before is None:
            del os.environ[name]
        else:
            os.environ[name] = before

# Copyright (c) mmcim contributors. All rights reserved.
"""Files of weights, read once, as data, and whole.

A checkpoint is a pickle, and a pickle may call anything. Here nothing of it is called:
``torch.load`` gets ``weights_only=True`` and a short list of what checkpoints hold beyond
tensors and plain values. What was damaged on the way is found by checksums.
"""

import os
import re
import zipfile
from argparse import Namespace
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import torch
from mmengine.dist import barrier, get_rank
from mmengine.logging import HistoryBuffer
from mmengine.runner import CheckpointLoader
from mmpretrain.registry import MODELS
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from ..utils.errors import ConfigError
from .layout import is_derived
from .record import BackboneRecord, tensors_sha256
from .trusted import trusted_backbone_config

# Where training programs keep the state dict: mmengine and timm; BEiT, MAE and DeiT;
# DeepSpeed.
_CONTAINERS = ('state_dict', 'model', 'module')
# What mmengine's log history can compute; stored as getattr(HistoryBuffer, name).
_STATISTICS = ('min', 'max', 'current', 'mean')
_ARRAY_TYPES = ('bool', 'uint8', 'int8', 'int16', 'int32', 'int64')
_ARRAY_TYPES += ('uint16', 'uint32', 'uint64', 'float16', 'float32', 'float64')
# Addresses that mmengine's first process downloads for all.
_DOWNLOADED = ('http', 'torchvision', 'modelzoo', 'open-mmlab', 'openmmlab', 'mmcls')
_LFS = b'version https://git-lfs'


class Weights(NamedTuple):
    """What is in a file of weights.

    Attributes:
        tensors: Name -> tensor. Nested dicts, such as ``student`` and ``teacher``, give
            dotted names.
        meta: ``meta`` of a checkpoint, or the metadata of a safetensors file.
    """

    tensors: dict[str, Tensor]
    meta: Mapping[str, Any]


@dataclass
class BackboneFile:
    """A file of weights with a backbone in it.

    Attributes:
        path: The file.
        tensors: All of its tensors, by the names that they have there.
        prefix: What the names of the backbone's tensors begin with; None if neither the
            caller nor the file specifies it.
        record: What the file says about this backbone; None for files of other projects.
    """

    path: str
    tensors: dict[str, Tensor]
    prefix: str | None = None
    record: BackboneRecord | None = None

    @classmethod
    def read(
        cls, path: str | Path, prefix: str | None = None, map_location: Any = 'cpu'
    ) -> 'BackboneFile':
        """Read a file, and compare the backbone's tensors with their recorded hash.

        Args:
            path: See :func:`read_weights`.
            prefix: Selects a backbone; by default the one that the file records.
            map_location: See ``torch.load``.

        Raises:
            ConfigError: If the file is missing, damaged, wants to run code, or holds no
                tensors.
        """
        path = os.fspath(path)
        tensors, meta = read_weights(path, map_location)
        record = (
            BackboneRecord.parse(meta['backbone'], path) if 'backbone' in meta else None
        )
        if prefix is not None:
            prefix = f'{prefix.rstrip(".")}.'.lstrip('.')
            if record and prefix != record.prefix:
                record = None  # it is about another one
        file = cls(path, tensors, record.prefix if record else prefix, record)
        if record and tensors_sha256(file.below(record.prefix)) != record.sha256:
            raise ConfigError(
                f'checkpoint {path} is damaged: the tensors of its backbone do not match '
                'their recorded SHA-256. Copy or download it again'
            )
        return file

    def below(self, prefix: str) -> dict[str, Tensor]:
        """The tensors whose names begin with a prefix, without it.

        Those that follow from a network's size are left out.
        """
        return {
            name[len(prefix) :]: value
            for name, value in self.tensors.items()
            if name.startswith(prefix) and not is_derived(name)
        }

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """Mean and std of R, G and B, on the scale 0..1; None if not recorded."""
        if self.record is None or not self.record.mean:
            return None
        # 57.12 / 255 is not quite 0.224.
        mean, std = self.record.mean, self.record.std
        return [round(v / 255, 8) for v in mean], [round(v / 255, 8) for v in std]

    def build(self, **overrides: Any) -> nn.Module:
        """Build the backbone, without its weights, by the recorded config.

        Args:
            **overrides: Arguments in place of the config's, such as ``img_size``.

        Returns:
            In evaluation mode.

        Raises:
            ConfigError: If there is no config, it is not one that a file of weights may
                have (:mod:`mmcim.checkpoints.trusted`), or it builds no backbone.
        """
        if self.record is None:
            raise ConfigError(
                f'{self.path} does not say which network its tensors are of; checkpoints '
                'and *_backbone.safetensors of mmcim do. Load the weights into a network '
                'of your own with mmcim.checkpoints.load_into'
            )
        config = trusted_backbone_config(self.record.config, self.path)
        # Whatever the default scope is, as mmseg in a segmentor.
        config = {'_scope_': 'mmpretrain', **config, **overrides}
        try:
            net = MODELS.build(config)
        except Exception as error:  # whatever a foreign constructor raises
            raise ConfigError(
                f'{self.path}: its backbone {config} cannot be built: {error}'
            ) from error
        net.train(False)  # eval() of mmpretrain's backbones returns None
        return net


def read_weights(path: str | Path, map_location: Any = 'cpu') -> Weights:
    """Read the tensors of any file of weights.

    Args:
        path: A ``.safetensors`` file, a file of ``torch.save`` (training checkpoint or
            state dict), or a URL of mmengine's ``CheckpointLoader`` such as ``https://``
            or ``torchvision://``.
        map_location: See ``torch.load``; safetensors come to the CPU.

    Raises:
        ConfigError: If it is missing, damaged, wants to run code, or holds no tensors.
    """
    path = os.fspath(path)
    if path.endswith('.safetensors') and '://' not in path:
        return _read_safetensors(path)
    content = load_checkpoint(path, map_location)
    meta = content.get('meta') if isinstance(content, Mapping) else None
    tensors = dict(_named_tensors(_state_dict(content)))
    if not tensors:
        keys = list(content) if isinstance(content, Mapping) else type(content).__name__
        raise ConfigError(
            f'checkpoint {path} holds no weights: expected names of tensors, at the top '
            f'or under one of {", ".join(_CONTAINERS)}; found {str(keys)[:200]}'
        )
    return Weights(tensors, meta if isinstance(meta, Mapping) else {})


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Load a file of ``torch.save`` as data, never as code.

    Args:
        path: A local file or a URL.
        map_location: See ``torch.load``.

    Returns:
        What is in the file. A config's text in ``meta['config']``, as mmengine before
        0.3 has it, is left out: mmengine would execute it when it resumes.

    Raises:
        ConfigError: If the file is missing, damaged, or wants to run code.
    """
    load = _download if '://' in str(path) else _load_local
    content = load(str(path), map_location)
    if isinstance(content, dict) and isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


def _load_local(path: str, map_location: Any) -> Any:
    local = _local_file(path)
    _check_crc(local)
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return torch.load(local, map_location=map_location, weights_only=True)
    except Exception as error:  # torch raises a dozen types for a damaged file
        refused = re.search(r'(?:GLOBAL |getattr\().*', str(error))
        if isinstance(error, UnpicklingError) and refused:
            # torch's own advice is to load it unsafely.
            raise ConfigError(
                f'checkpoint {path} holds more than tensors and plain values and was not '
                'loaded, because unpickling it could run any code (it asks for '
                f'{refused[0]}). If you trust its source, open it once with '
                'torch.load(FILE, weights_only=False) and save the dict of tensors alone'
            ) from error
        raise ConfigError(
            f'checkpoint {path} is damaged or not a checkpoint: {error}'
        ) from error


def _local_file(path: str | Path) -> str:
    """Expand the path of a file that is there, and is not a stand-in for one."""
    local = os.path.expanduser(path)
    if not os.path.isfile(local):
        raise ConfigError(f'checkpoint {path} does not exist')
    with open(local, 'rb') as file:
        if file.read(len(_LFS)) == _LFS:
            raise ConfigError(
                f'checkpoint {path} is a Git LFS pointer, not the weights; get them with '
                'git lfs pull'
            )
    return local


def _check_crc(path: str) -> None:
    """Compare a file of ``torch.save``, which is a zip file, with its own CRC32s.

    ``torch.load`` does not look at them, so that a flipped bit becomes another weight.
    """
    try:
        if not zipfile.is_zipfile(path):  # as before torch 1.6
            return
        with zipfile.ZipFile(path) as file:
            damaged = file.testzip()
    except Exception as error:  # zipfile raises a dozen types for a damaged file
        raise ConfigError(f'checkpoint {path} is damaged: {error}') from error
    if damaged is not None:
        raise ConfigError(
            f'checkpoint {path} is damaged: {damaged} in it does not match its checksum. '
            'Copy or download it again, or take another checkpoint'
        )


def _read_safetensors(path: str) -> Weights:
    try:
        with safe_open(_local_file(path), framework='pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return Weights(tensors, file.metadata() or {})
    except SafetensorError as error:
        raise ConfigError(
            f'checkpoint {path} is damaged or not a safetensors file: {error}'
        ) from error


def _download(url: str, map_location: Any) -> Any:
    """Let mmengine find and download a file, but read it as data."""
    force = 'TORCH_FORCE_WEIGHTS_ONLY_LOAD'  # mmengine's torch.load allows code
    before = os.environ.get(force)
    os.environ[force] = '1'
    try:
        with torch.serialization.safe_globals(_safe_globals()):
            return CheckpointLoader.load_checkpoint(url, map_location)
    except Exception as error:  # of network, server, mmengine's lists, or file
        if get_rank() == 0 and url.startswith(_DOWNLOADED):
            barrier()  # mmengine lets the other processes wait here
        raise ConfigError(f'checkpoint {url} cannot be loaded: {error!r}') from error
    finally:
        del os.environ[force]
        os.environ.update({} if before is None else {force: before})


def _state_dict(content: Any) -> Any:
    """Take the weights out of what else a training program saves."""
    if not isinstance(content, Mapping):
        return {}
    for name in _CONTAINERS:
        if isinstance(content.get(name), Mapping):
            return content[name]
    return {k: v for k, v in content.items() if k != 'optimizer'}


def _named_tensors(node: Mapping, prefix: str = '') -> Iterator[tuple[str, Tensor]]:
    for name, value in node.items():
        if isinstance(value, Tensor):
            yield f'{prefix}{name}', value
        elif isinstance(value, Mapping):
            yield from _named_tensors(value, f'{prefix}{name}.')


def _statistics_of_history(owner: type, name: str) -> Any:
    """Stand in for a checkpoint's ``getattr``: HistoryBuffer's methods and no more."""
    if owner is HistoryBuffer and name in _STATISTICS:
        return getattr(owner, name)
    raise UnpicklingError(f'getattr({owner!r}, {name!r}) is not allowed')


def _safe_globals() -> list:
    """List what checkpoints of other projects hold beyond tensors and plain values.

    Those of mmengine hold logs and numpy values; those of timm, BEiT, MAE and DeiT the
    arguments of their programs, whose container runs nothing when it is unpickled.
    """
    multiarray = np._core.multiarray if hasattr(np, '_core') else np.core.multiarray
    # numpy renamed the module, and old checkpoints carry the old name.
    arrays = [
        (getattr(multiarray, name), f'numpy.{core}.multiarray.{name}')
        for name in ('_reconstruct', 'scalar')
        for core in ('_core', 'core')
    ]
    return [
        HistoryBuffer,
        Namespace,
        (_statistics_of_history, 'builtins.getattr'),
        np.ndarray,
        np.dtype,
        *arrays,
        *(type(np.dtype(name)) for name in _ARRAY_TYPES),
    ]

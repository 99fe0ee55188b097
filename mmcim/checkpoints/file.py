# Copyright (c) mmcim contributors. All rights reserved.
"""Files of weights, read once, as data, and whole.

A checkpoint is a pickle, and a pickle may call anything. Here nothing of it is called:
``torch.load`` gets ``weights_only=True`` and a short list of what checkpoints hold beyond
tensors and plain values. What was damaged on the way is found by checksums.
"""

import hashlib
import json
import os
import re
import zipfile
from argparse import Namespace
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any
from urllib.parse import urlparse

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from mmengine.runner import checkpoint as mmengine_files
from mmpretrain.registry import MODELS
from safetensors import safe_open
from torch import Tensor, nn

from ..utils.errors import ConfigError
from ..utils.nested import walk
from .layout import tensors_below
from .record import BackboneRecord, tensors_sha256
from .trusted import trusted_backbone_config

# Where training programs keep the state dict: mmengine and timm; BEiT, MAE and DeiT;
# DeepSpeed.
_CONTAINERS = ('state_dict', 'model', 'module')
# What mmengine's log history can compute; stored as getattr(HistoryBuffer, name).
_STATISTICS = ('min', 'max', 'current', 'mean')
# Schemes of names that mmengine knows the addresses of.
_MODEL_LISTS = {
    'torchvision': mmengine_files.get_torchvision_models,
    'open-mmlab': mmengine_files.get_external_models,
}


@dataclass
class BackboneFile:
    """A file of weights, and what it says about a backbone in it.

    Attributes:
        path: The file.
        tensors: All of its tensors, by the names that they have there. Nested dicts and
            lists, such as ``student`` and ``teacher``, give dotted names.
        prefix: What the names of the backbone's tensors begin with; None if neither the
            caller nor the file specifies it.
        record: What the file says about this backbone; None for files of other projects.
        meta: ``meta`` of a checkpoint, or the metadata of a safetensors file.
    """

    path: str
    tensors: dict[str, Tensor]
    prefix: str | None = None
    record: BackboneRecord | None = None
    meta: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def read(cls, path: str | Path, prefix: str | None = None) -> 'BackboneFile':
        """Read a file, and compare the backbone's tensors with their recorded hash.

        Args:
            path: See :func:`read_weights`.
            prefix: Selects a backbone; by default the one that the file records.

        Raises:
            ConfigError: If the file is missing, damaged, wants to run code, or holds no
                tensors.
        """
        file, record = read_weights(path), None
        try:
            if 'backbone' in file.meta:
                record = BackboneRecord(**json.loads(file.meta['backbone']))
        except (RecursionError, TypeError, ValueError) as error:
            raise ConfigError(
                f'checkpoint {path}: its record of the backbone cannot be read: {error!r}'
            ) from error
        if prefix is not None:
            prefix = f'{prefix.rstrip(".")}.'.lstrip('.')
        if record is None or prefix not in (None, record.prefix):
            file.prefix = prefix  # the record is about another one
            return file
        file.prefix, file.record = record.prefix, record
        if tensors_sha256(file.below(record.prefix)) != record.sha256:
            raise ConfigError(
                f'checkpoint {path} is damaged: the tensors of its backbone do not match '
                'their recorded SHA-256. Copy or download it again'
            )
        return file

    def below(self, prefix: str) -> dict[str, Tensor]:
        """See :func:`mmcim.checkpoints.layout.tensors_below`."""
        return tensors_below(prefix, self.tensors)

    @property
    def normalization(self) -> tuple[list[float], list[float]] | None:
        """Mean and std of R, G and B, on the scale 0..255; None if not recorded."""
        record = self.record
        return (record.mean, record.std) if record and record.mean else None

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
                f'{self.path} does not say which network its tensors are of: give a file '
                'that mmcim has written of a backbone (a tokenizer has none), or load '
                'this one into your own network with mmcim.checkpoints.load_into'
            )
        try:
            config = trusted_backbone_config(self.record.config)
            # Whatever the default scope is, as mmseg in a segmentor.
            net = MODELS.build({'_scope_': 'mmpretrain', **config, **overrides})
        except Exception as error:  # whatever a foreign constructor raises
            raise ConfigError(
                f'{self.path}: its backbone cannot be built: {error}'
            ) from error
        net.train(False)  # eval() of mmpretrain's backbones returns None
        return net


def read_weights(path: str | Path) -> BackboneFile:
    """Read the tensors of any file of weights, to the CPU, and no record of a backbone.

    Args:
        path: See :func:`load_checkpoint`.

    Raises:
        ConfigError: If it is missing, damaged, wants to run code, or holds no tensors.
    """
    content = load_checkpoint(path)
    content = content if isinstance(content, Mapping) else {}
    states = (content.get(name) for name in _CONTAINERS)
    state = next((state for state in states if isinstance(state, Mapping)), content)
    found = {name: part for name, part in walk(state) if isinstance(part, Tensor)}
    # What a training library saves beside the weights is none of them.
    tensors = {k: v for k, v in found.items() if 'optimizer' not in k.split('.')}
    if not tensors:
        raise ConfigError(
            f'checkpoint {path} holds no weights: expected names of tensors, at the top '
            f'or under one of {", ".join(_CONTAINERS)}; found {str([*content])[:200]}'
        )
    meta = content.get('meta')
    meta = meta if isinstance(meta, Mapping) else {}
    return BackboneFile(os.fspath(path), tensors, meta=meta)


def load_checkpoint(path: str | Path, map_location: Any = 'cpu') -> Any:
    """Load a file of weights as data, never as code.

    Args:
        path: A ``.safetensors`` file, a file of ``torch.save`` (training checkpoint or
            state dict), or an address such as ``https://`` or ``torchvision://``, whose
            file is kept in the cache of ``torch.hub``.
        map_location: See ``torch.load``; safetensors come to the CPU.

    Returns:
        What is in the file; of safetensors a dict with ``state_dict`` and ``meta``. A
        config's text in ``meta['config']``, as mmengine before 0.3 has it, is left out:
        mmengine would execute it when it resumes.

    Raises:
        ConfigError: If the file is missing, damaged, or wants to run code.
    """
    path = os.fspath(path)
    path = _download(path) if '://' in path else os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ConfigError(f'checkpoint {path} does not exist')
    try:
        if path.endswith('.safetensors'):
            with safe_open(path, framework='pt') as file:
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                return dict(state_dict=tensors, meta=file.metadata() or {})
        _check_crc(path)
        with torch.serialization.safe_globals(_safe_globals()):
            content = torch.load(path, map_location=map_location, weights_only=True)
    except Exception as error:  # torch, zipfile and safetensors raise a dozen types
        raise ConfigError(f'checkpoint {path} {_reason(error)}') from error
    if isinstance(content, dict) and isinstance(content.get('meta'), dict):
        content['meta'].pop('config', None)
    return content


def _download(address: str) -> str:
    """Download a file into torch's cache, unless it is there, and give its path.

    Processes that do so at once each write a file of their own, which is then renamed.
    """
    scheme, _, name = address.partition('://')
    try:
        url = _MODEL_LISTS[scheme]()[name] if scheme in _MODEL_LISTS else address
        # Many addresses end in the same name.
        digest = hashlib.sha256(url.encode()).hexdigest()[:8]
        name = f'{digest}-{Path(urlparse(url).path).name}'
        path = Path(torch.hub.get_dir(), 'checkpoints', name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            torch.hub.download_url_to_file(url, str(path), progress=False)
        return str(path)
    except Exception as error:  # of network, server, or mmengine's lists
        raise ConfigError(f'{address} cannot be downloaded: {error!r}') from error


def _check_crc(path: str) -> None:
    """Compare a file of ``torch.save``, which is a zip file, with its own CRC32s.

    ``torch.load`` does not look at them, so that a flipped bit becomes another weight.
    """
    if zipfile.is_zipfile(path):  # unlike before torch 1.6
        with zipfile.ZipFile(path) as file:
            if damaged := file.testzip():
                raise ValueError(f'{damaged} in it does not match its checksum')


def _reason(error: Exception) -> str:
    """Say why a file was not loaded, without torch's advice to load it unsafely."""
    refused = re.search(r'(?:GLOBAL |getattr\().*', str(error))
    if isinstance(error, UnpicklingError) and refused:
        return (
            'holds more than tensors and plain values and was not loaded: it could run '
            f'any code (it asks for {refused[0]}). If you trust its source, open it with '
            'torch.load(FILE, weights_only=False) and save the dict of tensors alone'
        )
    cause = str(error).rpartition('WeightsUnpickler error:')[2].split('\n')[0].strip()
    return (
        f'is damaged or not a checkpoint: {cause or type(error).__name__}. '
        'Copy or download it again (by git lfs pull if its repository has Git LFS)'
    )


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
    known: list[Any] = [
        value for value in mmengine_files.get_torch_safe_globals() if value != getattr
    ]
    # numpy renamed the module, and old checkpoints carry the old name.
    makers = [value for value in known if 'multiarray' in value.__module__]
    known += [(maker, f'numpy.core.multiarray.{maker.__name__}') for maker in makers]
    known += [getattr(np.dtypes, name) for name in np.dtypes.__all__]
    return [*known, Namespace, (_statistics_of_history, 'builtins.getattr')]

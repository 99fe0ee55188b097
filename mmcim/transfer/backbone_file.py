# Copyright (c) mmcim contributors. All rights reserved.
"""The plain backbone: one small safetensors file that says what is in it."""

import os
from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from ..utils.errors import ConfigError
from ..utils.files import atomic_write

SUFFIX = '_backbone.safetensors'


def backbone_path(checkpoint: str | Path) -> Path:
    """Path of the backbone beside a checkpoint: ``epoch_1_backbone.safetensors``."""
    path = Path(checkpoint)
    return path.with_name(path.stem + SUFFIX)


def save_backbone(
    path: str | Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]
) -> None:
    """Write a backbone completely or not at all.

    Args:
        path (str | Path): The file to write or replace.
        tensors (Mapping[str, Tensor]): The backbone's own names -> tensors.
        metadata (Mapping[str, str]): What is known about them: ``method``; ``epoch`` or
            ``iter``; ``config_sha256`` of the training's config as its checkpoint has
            it; ``tokenizer_sha256``; ``mean`` and ``std``, JSON lists of the input's
            normalisation on the scale 0..255 in RGB; ``backbone``, JSON of the config
            that builds the network; ``grid``, JSON of its rows and columns of patches.

    Raises:
        ValueError: If there are no tensors.
    """
    if not tensors:
        raise ValueError(f'there are no tensors to write to {path}')
    # safetensors wants neither views nor tensors that share memory.
    plain = {name: t.detach().cpu().clone().contiguous() for name, t in tensors.items()}
    with atomic_write(path) as file:
        file.write(save(plain, dict(metadata)))


def read_safetensors(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read any safetensors file.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: Tensors, on the CPU, and metadata,
        which are empty in many files.

    Raises:
        ConfigError: If the file is missing or damaged.
    """
    path = os.path.expanduser(path)
    if not os.path.isfile(path):
        raise ConfigError(f'checkpoint {path} does not exist')
    try:
        with safe_open(path, framework='pt') as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            return tensors, file.metadata() or {}
    except SafetensorError as error:
        raise ConfigError(f'{path} is damaged or no safetensors file: {error}') from error


def read_backbone(path: str | Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Read what :func:`save_backbone` has written.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: Tensors, on the CPU, and metadata.

    Raises:
        ConfigError: If the file is missing, damaged, or does not say of which network
            the tensors are.
    """
    tensors, metadata = read_safetensors(path)
    if 'backbone' not in metadata:
        raise ConfigError(
            f'{path} does not say of which network its {len(tensors)} tensors are: its '
            f"metadata {sorted(metadata)} lack 'backbone'. mmcim's trainings write files "
            f'that do (*{SUFFIX}); load the tensors of any other file into a network of '
            'your own by mmcim.transfer.load_backbone_weights'
        )
    return tensors, metadata

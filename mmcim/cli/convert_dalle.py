# Copyright (c) mmcim contributors. All rights reserved.
r"""Convert OpenAI's dVAE into the one safetensors file that DALLETokenizer loads.

encoder.pkl and decoder.pkl are OpenAI's files; instead of encoder.pkl you can give
mmpretrain's dalle_encoder.pth, which holds the same encoder as plain tensors.

Example: mmcim convert-dalle encoder.pkl decoder.pkl --trust-pickle \
             --out weights/dalle_dvae.safetensors
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from ..checkpoints import read_weights
from ..checkpoints.record import save_safetensors, tensors_sha256
from ..models.tokenizers import DALLETokenizer
from ..utils import ConfigError


def run(args: argparse.Namespace) -> None:
    """Convert.

    Args:
        args: The command line.

    Raises:
        ConfigError: If the files cannot be read or do not fit, or the output exists.
    """
    if args.out.exists() and not args.force:
        raise ConfigError(f'{args.out} exists; add --force to replace it')
    tensors: dict = {}
    for part in ('encoder', 'decoder'):
        found = read(getattr(args, part), args.trust_pickle)
        tensors |= {f'{part}.{name}': value for name, value in found.items()}
    what = f'{args.encoder} as encoder with {args.decoder} as decoder'
    DALLETokenizer.build(tensors, what)
    sha256 = tensors_sha256(tensors)
    save_safetensors(args.out, tensors, dict(sha256=sha256))
    print(f'{args.out}: {len(tensors)} tensors, sha256 {sha256}')


def read(path: Path, trust_pickle: bool) -> dict[str, Tensor]:
    """Load tensors from a file that holds them alone, or in a pickled module.

    Args:
        path: The file.
        trust_pickle: Whether code in the file may run.

    Returns:
        The tensors of one network.

    Raises:
        ConfigError: If the file cannot be read, or would have to be trusted.
    """
    try:
        return read_weights(path).tensors
    except ConfigError as error:
        if not trust_pickle:
            raise ConfigError(
                f"{error}. OpenAI's own files are pickled modules: --trust-pickle runs "
                'whatever code they contain, with your rights. Use it only for files '
                'from a source that you trust, like https://cdn.openai.com/dall-e/'
            ) from error
    print(f'warning: unpickling {path} runs whatever code it contains', file=sys.stderr)
    try:
        return torch.load(path, map_location='cpu', weights_only=False).state_dict()
    except Exception as error:  # whatever the code in the file raises
        raise ConfigError(
            f"{path} cannot be unpickled: {error!r}. OpenAI's files need "
            '"pip install dall-e attrs"'
        ) from error

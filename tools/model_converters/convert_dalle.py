# Copyright (c) mmcim contributors. All rights reserved.
r"""Convert OpenAI's dVAE into the one safetensors file that DALLETokenizer loads.

    python tools/model_converters/convert_dalle.py encoder.pkl decoder.pkl \
        --out weights/dalle_dvae.safetensors --trust-pickle

encoder.pkl and decoder.pkl are OpenAI's files; in place of encoder.pkl goes also
mmpretrain's dalle_encoder.pth, which holds the same encoder as plain tensors.
"""

import argparse
import pickle
import sys
import zipfile
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import save
from torch import Tensor, nn

from mmcim.checkpoints.record import tensors_sha256
from mmcim.models.tokenizers import DALLETokenizer
from mmcim.utils import ConfigError, atomic_write, run_cli

_WHY = (
    "a pickled module and not plain tensors, as OpenAI's files are. Unpickling runs "
    'whatever code the file contains, with your rights. Do so only with files from a '
    'source that you trust, like https://cdn.openai.com/dall-e/'
)
# The first layers tell the networks apart: the encoder sees 7 x 7 pixels of RGB.
_FIRST = 'blocks.input.w'
# What torch raises for a file that is none of its own, or is cut off.
_DAMAGED = (
    pickle.UnpicklingError,
    RuntimeError,
    EOFError,
    OSError,
    zipfile.BadZipFile,
)


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('encoder', type=Path, help='encoder.pkl or dalle_encoder.pth')
    parser.add_argument('decoder', type=Path, help='decoder.pkl')
    parser.add_argument('--out', type=Path, required=True, help='file to write')
    parser.add_argument(
        '--trust-pickle',
        action='store_true',
        help='unpickle modules, which runs whatever code the files contain',
    )
    parser.add_argument('--force', action='store_true', help='replace the output')
    return parser.parse_args()


def read(path: Path, trust_pickle: bool) -> object:
    """Load a file: as plain tensors if it is that, else as a pickled module.

    Args:
        path: The file.
        trust_pickle: Whether code in the file may run.

    Returns:
        What the file holds.

    Raises:
        ConfigError: If the file is missing, is damaged, or would have to be trusted.
    """
    if not path.is_file():
        raise ConfigError(f'{path.absolute()} does not exist')
    with path.open('rb') as file:
        head = file.read(2)
    if not head.startswith((b'PK', b'\x80')):  # an archive, or a bare pickle
        raise ConfigError(f'{path} is no PyTorch file: it begins with {head!r}')
    try:
        return torch.load(path, map_location='cpu', weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust_pickle:
            raise ConfigError(
                f'{path} is {_WHY}. If you do, add --trust-pickle.'
            ) from error
    except _DAMAGED as error:
        raise ConfigError(f'{path} is damaged or no PyTorch file: {error}') from error

    print(f'warning: unpickling {path}: it is {_WHY}.', file=sys.stderr)
    try:
        return torch.load(path, map_location='cpu', weights_only=False)
    except ImportError as error:
        raise ConfigError(
            f"{path} needs the module {error.name!r}; OpenAI's pickles need "
            '"pip install dall-e attrs"'
        ) from error
    except _DAMAGED as error:
        raise ConfigError(f'{path} is damaged or no PyTorch file: {error}') from error


def weights_of(content: object, path: Path, part: str) -> dict[str, Tensor]:
    """Tensors of one network, under the official names.

    Args:
        content: A module, a state dict, or a checkpoint with the key ``state_dict``.
        path: Where it came from, for errors.
        part: 'encoder' or 'decoder'.

    Returns:
        Name -> tensor, each name with the part in front.

    Raises:
        ConfigError: If it is the other network, or none.
    """
    if isinstance(content, nn.Module):
        content = content.state_dict()
    if isinstance(content, Mapping):
        content = content.get('state_dict', content)
    first = content.get(_FIRST) if isinstance(content, Mapping) else None
    if not isinstance(first, Tensor) or first.ndim != 4:
        raise ConfigError(f"{path} is not OpenAI's dVAE {part}: it has no {_FIRST}")
    found = 'encoder' if first.shape[1:] == (3, 7, 7) else 'decoder'
    if found != part:
        raise ConfigError(
            f'{path} holds the {found}, expected the {part}: give encoder, then decoder'
        )
    return {f'{part}.{key}': tensor.contiguous() for key, tensor in content.items()}


def main() -> None:
    args = parse_args()
    if args.out.suffix != '.safetensors':
        raise ConfigError(f'--out must end in .safetensors, got {args.out}')
    if args.out.exists() and not args.force:
        raise ConfigError(f'{args.out} exists; add --force to replace it')

    tensors = {}
    for part, path in (('encoder', args.encoder), ('decoder', args.decoder)):
        tensors |= weights_of(read(path, args.trust_pickle), path, part)
    DALLETokenizer.build(tensors, f'{args.encoder} with {args.decoder}')

    sha256 = tensors_sha256(tensors)
    with atomic_write(args.out) as file:
        file.write(save(tensors, metadata={'sha256': sha256}))
    print(f'{args.out}: {len(tensors)} tensors, sha256 {sha256}')


if __name__ == '__main__':
    run_cli(main)

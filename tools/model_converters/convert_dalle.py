# Copyright (c) mmcim contributors. All rights reserved.
r"""Convert OpenAI's dVAE into the one safetensors file that DALLETokenizer loads.

    python tools/model_converters/convert_dalle.py encoder.pkl decoder.pkl \
        --out weights/dalle_dvae.safetensors --trust-pickle

encoder.pkl and decoder.pkl are OpenAI's files; in place of encoder.pkl goes also
mmpretrain's dalle_encoder.pth, which holds the same encoder as plain tensors.
"""

import argparse
import sys
from pathlib import Path

import torch
from torch import Tensor

from mmcim.checkpoints import read_weights
from mmcim.checkpoints.record import save_safetensors, tensors_sha256
from mmcim.models.tokenizers import DALLETokenizer
from mmcim.utils import run_cli


def read(path: Path, trust_pickle: bool) -> dict[str, Tensor]:
    """Load tensors from a file that holds them alone, or in a pickled module.

    Args:
        path: The file.
        trust_pickle: Whether code in the file may run.

    Returns:
        The tensors of one network.

    Raises:
        ValueError: If the file cannot be read, or would have to be trusted.
    """
    try:
        return read_weights(path).tensors
    except ValueError as error:
        if not trust_pickle:
            raise ValueError(
                f"{error}. OpenAI's own files are pickled modules: --trust-pickle runs "
                'whatever code they contain, with your rights. Use it only for files '
                'from a source that you trust, like https://cdn.openai.com/dall-e/'
            ) from error
    print(f'warning: unpickling {path} runs whatever code it contains', file=sys.stderr)
    try:
        return torch.load(path, map_location='cpu', weights_only=False).state_dict()
    except Exception as error:  # whatever the code in the file raises
        raise ValueError(
            f"{path} cannot be unpickled: {error!r}. OpenAI's files need "
            '"pip install dall-e attrs"'
        ) from error


def main() -> None:
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
    args = parser.parse_args()
    if args.out.suffix != '.safetensors':
        parser.error(f'--out must end in .safetensors, got {args.out}')
    if args.out.exists() and not args.force:
        parser.error(f'{args.out} exists; add --force to replace it')

    tensors = {}
    try:
        for part in ('encoder', 'decoder'):
            found = read(getattr(args, part), args.trust_pickle)
            tensors |= {f'{part}.{name}': value for name, value in found.items()}
        what = f'{args.encoder} as encoder with {args.decoder} as decoder'
        DALLETokenizer.build(tensors, what)
    except ValueError as error:
        parser.error(str(error))

    sha256 = tensors_sha256(tensors)
    save_safetensors(args.out, tensors, dict(sha256=sha256))
    print(f'{args.out}: {len(tensors)} tensors, sha256 {sha256}')


if __name__ == '__main__':
    run_cli(main)

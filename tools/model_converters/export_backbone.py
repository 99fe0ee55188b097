# Copyright (c) mmcim contributors. All rights reserved.
r"""Write a trained backbone for another library.

    python tools/model_converters/export_backbone.py \
        work_dirs/cim/vit-b_8xb256-300e/epoch_300.pth --to timm --out vit-b.safetensors

CHECKPOINT is a training checkpoint or the exported backbone beside it. Nothing is written
unless the library computes the same features.

--to timm  .safetensors for timm.create_model: vit_*, beit_*, resnet*
--to hf    folder for transformers' ViTModel and BeitModel
"""

import argparse
from pathlib import Path

from mmcim.checkpoints.export import TARGETS, export_backbone
from mmcim.utils import run_cli


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('checkpoint', type=Path, help='.pth or _backbone.safetensors')
    parser.add_argument('--to', choices=list(TARGETS), required=True, help='library')
    parser.add_argument('--out', type=Path, required=True, help='file or folder to write')
    parser.add_argument('--force', action='store_true', help='replace the output')
    parser.add_argument(
        '--img-size',
        type=int,
        nargs=2,
        metavar=('H', 'W'),
        help='resize position embeddings for images of this size',
    )
    args = parser.parse_args()
    try:
        export = export_backbone(
            args.checkpoint, args.to, args.out, args.force, args.img_size
        )
    except ValueError as error:
        parser.error(str(error))
    print(f'{args.out}:\n\n{export.usage}\n')
    print(
        'Checked: on random images its features differ from those of the checkpoint by '
        f'at most {export.difference:.1e} of the largest feature.'
    )


if __name__ == '__main__':
    run_cli(main)

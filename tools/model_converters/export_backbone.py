# Copyright (c) mmcim contributors. All rights reserved.
r"""Write a trained backbone for another library.

    python tools/model_converters/export_backbone.py \
        work_dirs/vit-b_8xb256-300e/epoch_300.pth --to timm --out vit-b.safetensors

CHECKPOINT is a training checkpoint or the plain backbone beside it. The same features in
both networks are checked before anything is written, if the library is installed.

--to mmpretrain   .safetensors for init_cfg=dict(type='Pretrained', ...)
--to mmseg        .pth for mmsegmentation's own VisionTransformer, BEiT and ResNet
--to timm         .safetensors for timm.create_model: vit_*, beit_*, resnet*
--to hf           folder for transformers' ViTModel and BeitModel
--to torchvision  .pth for torchvision's resnet*

mmsegmentation's BEiT takes pictures of the size alone that it is written for: give the
crops' by --img-size 512 512.
"""

import argparse
from pathlib import Path

from mmcim.transfer.export import TARGETS, export_backbone
from mmcim.utils import run_cli


def parse_args() -> argparse.Namespace:
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
        help='resize positions for pictures of this size; default: of the training',
    )
    parser.add_argument(
        '--prefix',
        help="another backbone of the checkpoint, such as ConMIM's online encoder: "
        'backbone.',
    )
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    export = export_backbone(
        args.checkpoint, args.to, args.out, args.force, args.img_size, args.prefix
    )
    print(f'{args.out}:\n\n{export.usage}\n')
    if export.difference is not None:
        print(
            'Checked: on random pictures its features differ from those of the '
            f'checkpoint by at most {export.difference:.1e} of the largest feature.'
        )
    elif args.to != 'mmpretrain':
        print('Not checked: the library is not installed.')


if __name__ == '__main__':
    run_cli(main)

# Copyright (c) mmcim contributors. All rights reserved.
r"""Write a trained backbone for another library.

CHECKPOINT is a training checkpoint or the exported backbone beside it. Nothing is written
unless the library reads image files as mmcim does and computes the same features.

--to timm  .safetensors for timm.create_model: vit_*, beit_*, resnet*
--to hf    folder for transformers' ViTModel and BeitModel

Example: mmcim export work_dirs/cim/vit-b_8xb256-300e/epoch_300.pth --to timm \
             --out vit-b.safetensors
"""

import argparse

from ..checkpoints.export import export_backbone


def run(args: argparse.Namespace) -> None:
    """Export.

    Args:
        args: The command line.

    Raises:
        ConfigError: If it cannot be exported.
    """
    export = export_backbone(args.checkpoint, args.to, args.out, args.img_size)
    print(f'{args.out}:\n\n{export.usage}\n')
    print(
        'Checked: on image files of several shapes and modes its features differ from '
        f'those of the checkpoint by at most {export.difference:.1e} of the largest.'
    )
    if export.left_out:
        print(f'Left out: {", ".join(export.left_out)}')

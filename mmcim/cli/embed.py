# Copyright (c) mmcim contributors. All rights reserved.
"""Write one feature vector per image of a folder into a file.

The .npz file has features, (N, D) in float32, and names, (N,), the sorted paths below
DIR: row i is names[i]. Images are read and normalised as in the backbone's training,
resized and cropped; feature maps and patch tokens are averaged.

FILE is an exported backbone or the checkpoint beside it, of any method. DIR is searched
recursively. Several GPUs: a command with a part of the images, and --device, for each.

Example: mmcim embed photos --backbone epoch_300_backbone.safetensors --out features.npz
"""

import argparse
import os

import numpy as np
import torch
from mmengine.device import get_device

from ..apis import extract_features, load_backbone
from ..datasets import list_images
from ..utils import ConfigError, atomic_write


def run(args: argparse.Namespace) -> None:
    """Embed.

    Args:
        args: The command line.

    Raises:
        ConfigError: If there is no such device, if the backbone or an image cannot be
            read, or if the file cannot be written.
    """
    try:
        device = torch.empty(0, device=args.device or get_device()).device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ConfigError(f'--device {args.device}: {reason}') from error
    backbone = load_backbone(args.backbone, device)
    names = list_images(args.folder).files
    paths = [os.path.join(args.folder, name) for name in names]
    with atomic_write(args.out) as file:
        features = extract_features(
            backbone,
            paths,
            args.batch_size,
            args.img_size,
            num_workers=args.num_workers,
            progress=True,
        ).numpy()
        np.savez(file, features=features, names=np.array(names))
    print(f'wrote {args.out}: {len(names)} images, {features.shape[1]} features each')

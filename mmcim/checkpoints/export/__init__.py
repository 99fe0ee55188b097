# Copyright (c) mmcim contributors. All rights reserved.
"""Write a trained backbone for another library, and compare the two networks.

mmpretrain, mmsegmentation and torchvision read the files of a training as they are.
"""

import os
import textwrap
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import torch
from mmengine.model import BaseModule
from torchvision.transforms.functional import pil_to_tensor

from ...datasets import fit_image
from ...utils.errors import ConfigError
from ..file import BackboneFile
from ..load import load_into
from . import hf, timm
from .samples import write_samples

# Module, and what --out ends with; Hugging Face's is a folder.
TARGETS = dict(timm=(timm, '.safetensors'), hf=(hf, ''))
# Of the difference of features, relative to the largest.
_TOLERANCE = 1e-5
# Of the distance between the features of a file as the two libraries read it, relative
# to that of another image: at the borders of a crop their filters differ.
_READING_TOLERANCE = 0.2
# All libraries get RGB images with 8 bits; they would squeeze, clip or refuse others.
_READ = """\
import numpy as np
from PIL import Image, ImageOps


def read(file):
    image = ImageOps.exif_transpose(Image.open(file))
    if image.mode.startswith('I;16'):  # Pillow would clip it
        image = Image.fromarray((np.asarray(image) // 256).astype('uint8'))
    return image.convert('RGB')


"""


class Export(NamedTuple):
    """What has been written.

    Attributes:
        usage: Python code that opens it and computes ``features`` of image ``files``.
        difference: Largest difference between features of the two networks on the same
            pixels, relative to the largest feature.
        left_out: What the checkpoint holds besides, such as the head of a classifier.
    """

    usage: str
    difference: float
    left_out: list[str]


def export_backbone(
    checkpoint: str | Path,
    target: str,
    out: str | Path,
    img_size: tuple[int, int] | None = None,
) -> Export:
    """Write a backbone for another library.

    The file or folder appears only after the other library has opened it, read image
    files of several shapes and modes, and computed the same features. That is also what
    decides whether it has such a network.

    Args:
        checkpoint: Training checkpoint or ``*_backbone.safetensors``.
        target: 'timm' or 'hf'.
        out: New file for 'timm', new folder for 'hf'.
        img_size: Height and width of images, in pixels, that position embeddings are
            resized for; by default those of the training.

    Raises:
        ConfigError: If ``out`` exists, if the checkpoint has no backbone of mmcim or does
            not record how its images are normalised, if the library is not installed, or
            if it has no network with the same features.
    """
    out, (library, suffix) = Path(out), TARGETS[target]
    if suffix and out.suffix != suffix:
        raise ConfigError(f'for {target}, --out must end with {suffix}, got {out}')
    if out.exists():
        raise ConfigError(f'{out} exists; delete it, or take another --out')
    file = BackboneFile.read(checkpoint)
    net = file.build(**({} if img_size is None else dict(img_size=tuple(img_size))))
    report = load_into(net, file)
    if not file.normalization:
        raise ConfigError(
            f'{checkpoint}: no mean and std are recorded, by which the other library '
            'would normalise images. Train with data_preprocessor.mean, std, to_rgb=True'
        )
    scale = [[round(v / 255, 8) for v in part] for part in file.normalization]
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix='.export') as folder:
        temporary = Path(folder) / out.name
        try:
            usage = _READ + library.write(net, scale, temporary)
            difference, reading = compare(net, usage, scale, Path(folder, 'samples'))
            if not difference <= _TOLERANCE:  # NaN, too
                raise ValueError(f'features differ by {difference:.1e} of their size')
            if not reading <= _READING_TOLERANCE:
                raise ValueError(f'features of image files differ by {reading:.0%}')
            os.replace(temporary, out)
        except Exception as error:  # whatever a library raises for what it cannot express
            # torch's has a line for each tensor.
            reason = textwrap.shorten(str(error), 300, placeholder=' ...')
            raise ConfigError(
                f'this {type(net).__name__} cannot be exported to {target}: {reason}. '
                'Nothing was written'
            ) from error
    usage = usage.replace(repr(str(temporary)), repr(str(out)))
    return Export(usage, difference, report.unused)


def compare(
    net: BaseModule, usage: str, normalization: list[list[float]], folder: Path
) -> tuple[float, float]:
    """Run the code that users are given on image files, and compare the features.

    Args:
        net: The network, with its weights. Pooled features are compared with pooled
            ones, and all tokens where it gives anything else.
        usage: Computes ``pixels`` and ``features`` of ``files``.
        normalization: Mean and std, on the scale 0..1.
        folder: For the files, a new one.

    Returns:
        The largest difference on the same pixels, relative to the largest feature; and
        the largest distance between the features of a file as usage and as mmcim read
        it, relative to the distance from the nearest other file. NaN and infinity count
        as any other value.
    """
    if getattr(net, 'out_type', 'avg_featmap') != 'avg_featmap':
        net.out_type = 'raw'
    size = getattr(net, 'img_size', (224, 224))
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in normalization)
    names: dict[str, Any] = dict(files=write_samples(folder))
    own = [pil_to_tensor(fit_image(file, size)) / 255 for file in names['files']]
    with torch.no_grad():
        exec(usage, names)
        expected, found = net(names['pixels'])[-1], names['features']
        read = net((torch.stack(own) - mean) / std)[-1]
    difference = (found - expected).abs().max() / expected.abs().max()
    distances = torch.cdist(found.flatten(1), read.flatten(1))  # (files, files)
    same = distances.diagonal().clone()
    others = distances.fill_diagonal_(torch.inf).amin(1)
    return difference.item(), (same / others).max().item()

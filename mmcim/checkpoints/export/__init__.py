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

from ...utils.errors import ConfigError
from ..file import BackboneFile
from ..load import load_into
from . import hf, timm

# Module, and what --out ends with; Hugging Face's is a folder.
TARGETS = dict(timm=(timm, '.safetensors'), hf=(hf, ''))
# Of the difference of features, relative to the largest.
_TOLERANCE = 1e-5


class Export(NamedTuple):
    """What has been written.

    Attributes:
        usage: Python code that opens it and computes ``features`` of ``images``.
        difference: Largest difference between features of the two networks on random
            images, relative to the largest feature.
    """

    usage: str
    difference: float


def export_backbone(
    checkpoint: str | Path,
    target: str,
    out: str | Path,
    img_size: tuple[int, int] | None = None,
) -> Export:
    """Write a backbone for another library.

    The file or folder appears only after the other library has opened it and computed
    the same features. That is also what decides whether it has such a network.

    Args:
        checkpoint: Training checkpoint or ``*_backbone.safetensors``.
        target: 'timm' or 'hf'.
        out: New file for 'timm', new folder for 'hf'.
        img_size: Height and width of images, in pixels, that position embeddings are
            resized for; by default those of the training.

    Raises:
        ConfigError: If ``out`` exists, if the checkpoint has no backbone of mmcim, if the
            library is not installed, or if it has no network with the same features.
    """
    out, (library, suffix) = Path(out), TARGETS[target]
    if suffix and out.suffix != suffix:
        raise ConfigError(f'for {target}, --out must end with {suffix}, got {out}')
    if out.exists():
        raise ConfigError(f'{out} exists; delete it, or take another --out')
    file = BackboneFile.read(checkpoint)
    net = file.build(**({} if img_size is None else dict(img_size=tuple(img_size))))
    load_into(net, file)
    scale = [[round(v / 255, 8) for v in part] for part in file.normalization or ()]
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=out.parent, prefix='.export') as folder:
        temporary = Path(folder) / out.name
        try:
            usage = library.write(net, scale, temporary)
            difference = largest_difference(net, usage)
            if not difference <= _TOLERANCE:  # NaN, too
                raise ValueError(f'features differ by {difference:.1e} of their size')
            os.replace(temporary, out)
        except Exception as error:  # whatever a library raises for what it cannot express
            # torch's has a line for each tensor.
            reason = textwrap.shorten(str(error), 300, placeholder=' ...')
            raise ConfigError(
                f'this {type(net).__name__} cannot be exported to {target}: {reason}. '
                'Nothing was written'
            ) from error
    return Export(usage.replace(repr(str(temporary)), repr(str(out))), difference)


def largest_difference(net: BaseModule, usage: str) -> float:
    """Run the code that users are given, and compare the features on random images.

    Args:
        net: The network, with its weights. Pooled features are compared with pooled
            ones, and all tokens where it gives anything else.
        usage: Computes ``features`` of ``images``.

    Returns:
        The largest difference, relative to the largest feature; NaN and infinity count
        as any other value.
    """
    if getattr(net, 'out_type', 'avg_featmap') != 'avg_featmap':
        net.out_type = 'raw'
    size = getattr(net, 'img_size', (224, 224))
    generator = torch.Generator().manual_seed(0)
    names: dict[str, Any] = dict(images=torch.randn(2, 3, *size, generator=generator))
    with torch.no_grad():
        exec(usage, names)
        expected, found = net(names['images'])[-1], names['features']
    return ((found - expected).abs().max() / expected.abs().max()).item()

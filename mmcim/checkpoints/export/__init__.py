# Copyright (c) mmcim contributors. All rights reserved.
"""Write a trained backbone for another library, and compare the two networks.

mmpretrain, mmsegmentation and torchvision read the files of a training as they are.
"""

from pathlib import Path
from typing import NamedTuple

from ...utils.errors import ConfigError
from ..file import BackboneFile
from ..layout import is_derived
from ..load import load_into
from . import hf, timm
from .files import largest_difference, replacing

# Module, and what --out ends with; Hugging Face's is a folder.
TARGETS = dict(timm=(timm, '.safetensors'), hf=(hf, ''))
# Of the difference of features, relative to the largest.
_TOLERANCE = 1e-5


class Export(NamedTuple):
    """What has been written.

    Attributes:
        usage: Python code that opens it.
        difference: Largest difference between features of the two networks on random
            images, relative to the largest feature.
    """

    usage: str
    difference: float


def export_backbone(
    checkpoint: str | Path,
    target: str,
    out: str | Path,
    force: bool = False,
    img_size: tuple[int, int] | None = None,
) -> Export:
    """Write a backbone for another library.

    The file or folder appears only after the other library has opened it and computed
    the same features. That is also what decides whether it has such a network.

    Args:
        checkpoint: Training checkpoint or ``*_backbone.safetensors``.
        target: 'timm' or 'hf'.
        out: File for 'timm', folder for 'hf'.
        force: Whether to replace it.
        img_size: Height and width of images, in pixels, that position embeddings are
            resized for; by default those of the training.

    Raises:
        ConfigError: If the checkpoint has no backbone of mmcim, if the library is not
            installed, or if it has no network with the same features.
    """
    out, (library, suffix) = Path(out), TARGETS[target]
    if suffix and out.suffix != suffix:
        raise ConfigError(f'for {target}, --out must end with {suffix}, got {out}')
    if out.exists() and not force:
        raise ConfigError(f'{out} exists; add --force to replace it')
    if out.exists() and out.is_dir() != (not suffix):
        kinds = ('file', 'folder') if out.is_dir() else ('folder', 'file')
        raise ConfigError(
            f'for {target}, --out is a {kinds[0]}, but {out} is a {kinds[1]}'
        )
    file = BackboneFile.read(checkpoint)
    net = file.build(**({} if img_size is None else dict(img_size=tuple(img_size))))
    load_into(net, file)
    tensors = {
        name: value.float() if value.is_floating_point() else value
        for name, value in net.state_dict().items()
        if not is_derived(name)
    }
    with replacing(out) as temporary:
        try:
            written = library.write(file, net, tensors, temporary)
            difference = largest_difference(net, written.load())
            if not difference <= _TOLERANCE:  # NaN, too
                raise ValueError(f'features differ by {difference:.1e} of their size')
        except ImportError as error:
            raise ConfigError(f'--to {target} needs the package: {error}') from error
        except ConfigError:
            raise
        except Exception as error:  # whatever a library raises for what it cannot express
            reason = ' '.join(str(error).split())  # torch's has several lines
            raise ConfigError(
                f'{target} has no network like this {type(net).__name__}: {reason}. '
                'Nothing was written'
            ) from error
    return Export(written.usage.replace(str(temporary), str(out)), difference)

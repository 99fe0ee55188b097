# Copyright (c) mmcim contributors. All rights reserved.
"""Features of pictures."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from mmengine.utils import is_seq_of
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from mmcim.datasets.picture_folder import EXTENSIONS
from mmcim.utils import ConfigError

# The size of pictures for networks that do not tell theirs, such as a ResNet.
_DEFAULT_SIZE = 224

Picture = str | Path | Image.Image


def list_pictures(folder: str | Path) -> list[Path]:
    """List the pictures in a folder and in all folders below it, sorted by path.

    Args:
        folder (str | Path): The folder.

    Returns:
        list[Path]: Their paths, which begin with that of the folder.

    Raises:
        ConfigError: If there is none.
    """
    paths = Path(folder).rglob('*')
    pictures = sorted(p for p in paths if p.suffix.lower() in EXTENSIONS)
    if not pictures:
        raise ConfigError(
            f'{folder} has no pictures; known are {", ".join(EXTENSIONS)}'
            if Path(folder).is_dir()
            else f'{folder} is no folder; give a list for single pictures'
        )
    return pictures


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    images: str | Path | Sequence[Picture] | Tensor,
    batch_size: int = 64,
    img_size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Compute one feature vector per picture.

    Pictures are normalised as in the backbone's training (``backbone.normalization``).
    Files and PIL pictures are turned upright, brought to the backbone's input size by
    bicubic resizing, and cut at the longer side. Feature maps and patch tokens are
    averaged over the picture; ``out_type='cls_token'`` or ``'avg_featmap'`` of a
    backbone are vectors already.

    Args:
        backbone (nn.Module): From :func:`load_backbone`, on any device.
        images (str | Path | Sequence | Tensor): A folder, which stands for
            ``list_pictures(folder)``; paths or PIL pictures; or RGB pictures in
            [0, 1], (B, 3, H, W), which are used at the size that they have.
        batch_size (int): Pictures at a time. Defaults to 64.
        img_size (int | tuple[int, int], optional): Height and width that files and PIL
            pictures are brought to. By default the backbone's own, or 224 if it has none.

    Returns:
        Tensor: (N, D), float32, on the CPU, in the order of the pictures.

    Raises:
        ConfigError: If a picture cannot be read, or it is not known how pictures are to
            be normalised.
        ValueError: If a tensor is not (B, 3, H, W) in [0, 1].

    Examples:
        >>> paths = list_pictures('pictures')
        >>> features = extract_features(backbone, paths)
        >>> nearest = torch.cdist(features, features).topk(2, largest=False).indices[:, 1]
        >>> print(paths[0], 'is most like', paths[nearest[0]])
    """
    normalization = getattr(backbone, 'normalization', None)
    if normalization is None:
        raise ConfigError(
            'it is not known how the pictures of this backbone are normalised; set '
            'backbone.normalization = (mean, std), three values each, on the scale 0..1'
        )
    if isinstance(images, str | Path):
        images = list_pictures(images)
    size = img_size or getattr(backbone, 'img_size', _DEFAULT_SIZE)
    size = (size, size) if isinstance(size, int) else tuple(size)
    device = next(backbone.parameters()).device
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in normalization)
    training = backbone.training
    backbone.train(False)
    features = []
    try:
        for batch in _batches(images, batch_size, size):
            outputs = backbone((batch.to(device) - mean) / std)
            outputs = outputs if isinstance(outputs, Tensor) else outputs[-1]
            features.append(_pool(backbone, outputs).cpu())
    finally:
        backbone.train(training)
    return torch.cat(features).float()


def _batches(
    images: Sequence[Picture] | Tensor, batch_size: int, size: tuple[int, int]
) -> Iterator[Tensor]:
    """Give pictures in [0, 1], (b, 3, H, W)."""
    if isinstance(images, Tensor):
        wrong = images.ndim != 4 or images.size(1) != 3 or not images.is_floating_point()
        if wrong or images.amin() < 0 or images.amax() > 1:
            raise ValueError(
                'pictures must be a float tensor (B, 3, H, W) in [0, 1], not '
                f'{images.dtype} of shape {tuple(images.shape)} in '
                f'[{images.min():.3g}, {images.max():.3g}]'
            )
        yield from images.split(batch_size)
        return
    if not images or not is_seq_of(images, (str, Path, Image.Image)):
        raise ValueError('images must be a folder, a tensor, or paths or PIL pictures')
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        yield torch.stack([_load(picture, size) for picture in batch])


def _load(picture: Picture, size: tuple[int, int]) -> Tensor:
    """Give (3, H, W) in [0, 1]."""
    try:
        if not isinstance(picture, Image.Image):
            picture = Image.open(picture)
        picture = ImageOps.exif_transpose(picture).convert('RGB')
    except (OSError, UnidentifiedImageError, SyntaxError) as error:
        raise ConfigError(f'the picture {picture} cannot be read: {error}') from error
    height, width = size
    picture = ImageOps.fit(picture, (width, height), Image.Resampling.BICUBIC)
    return pil_to_tensor(picture).float() / 255


def _pool(backbone: nn.Module, features: Tensor) -> Tensor:
    """Average what is not a vector, (B, C, h, w) or tokens (B, N, C), to (B, C)."""
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if features.ndim == 3:
        return features[:, getattr(backbone, 'num_extra_tokens', 0) :].mean(dim=1)
    return features

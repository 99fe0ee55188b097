# Copyright (c) mmcim contributors. All rights reserved.
"""Features of images."""

import os
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms.functional import pil_to_tensor

from mmcim.datasets import fit_image, list_images

ImageLike = str | Path | Image.Image


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    images: str | Path | Sequence[ImageLike],
    batch_size: int = 64,
    img_size: int | tuple[int, int] | None = None,
) -> Tensor:
    """Compute one feature vector per image.

    Images are normalised as in the backbone's training (``backbone.normalization``).
    Files are read as in training, see :func:`mmcim.datasets.read_image`. Files and PIL
    images are rotated upright, resized to the backbone's input size with a bicubic
    filter, and cropped at the longer side. Feature maps and patch tokens are averaged
    over the image; ``out_type='cls_token'`` or ``'avg_featmap'`` of a backbone are
    vectors already.

    Args:
        backbone: From :func:`load_backbone`, on any device.
        images: A folder, all of whose images are taken, in the order of
            ``list_images(folder).files``; or paths or PIL images.
        batch_size: Images at a time.
        img_size: Height and width that files and PIL images are resized to. By default
            the backbone's own, or 224 if it has none.

    Returns:
        (N, D), float32, on the CPU, in the order of the images.

    Raises:
        ValueError: If an image cannot be read, or the backbone does not specify how
            images are normalised.

    Example:
        >>> from mmcim.apis import extract_features, load_backbone
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> features = extract_features(backbone, 'images')
        >>> files = list_images('images').files
        >>> features.shape == (len(files), 768)
        True
        >>> distances = torch.cdist(features, features).fill_diagonal_(torch.inf)
        >>> most_similar = [files[i] for i in distances.argmin(dim=1)]
    """
    normalization = getattr(backbone, 'normalization', None)
    if normalization is None:
        raise ValueError(
            'this backbone does not specify how images are normalised; set '
            'backbone.normalization = (mean, std), three values each, on the scale 0..255'
        )
    if isinstance(images, str | Path):
        images = [os.path.join(images, file) for file in list_images(images).files]
    size = img_size or getattr(backbone, 'img_size', 224)  # a ResNet has none
    size = (size, size) if isinstance(size, int) else tuple(size)  # type: ignore[arg-type]
    weight = next(backbone.parameters())
    device = weight.device
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in normalization)
    training = backbone.training
    backbone.train(False)
    features = []
    try:
        for start in range(0, len(images), batch_size):
            chosen = images[start : start + batch_size]
            batch = torch.stack([_load(image, size) for image in chosen])
            outputs = backbone(((batch.to(device) - mean) / std).to(weight.dtype))
            outputs = outputs if isinstance(outputs, Tensor) else outputs[-1]
            features.append(pool(backbone, outputs).cpu())
    finally:
        backbone.train(training)
    return torch.cat(features).float()


def _load(image: ImageLike, size: tuple[int, int]) -> Tensor:
    """Give (3, H, W) on the scale 0..255."""
    # I;16, too: Pillow would clip the values.
    if isinstance(image, Image.Image) and image.mode[0] in 'IF':
        raise ValueError(f'PIL images of mode {image.mode} are ambiguous; give the file')
    return pil_to_tensor(fit_image(image, size)).float()


def pool(backbone: nn.Module, features: Tensor) -> Tensor:
    """Average what is not a vector, (B, C, h, w) or tokens (B, N, C), to (B, C)."""
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if features.ndim == 3:
        return features[:, getattr(backbone, 'num_extra_tokens', 0) :].mean(dim=1)
    return features

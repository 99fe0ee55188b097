# Copyright (c) mmcim contributors. All rights reserved.
"""Backbones from files, and features of images."""

import os
from collections.abc import Callable, Sequence
from copy import copy
from functools import partial
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader
from torchvision.transforms.functional import pil_to_tensor

from mmcim.checkpoints import BackboneFile, load_into
from mmcim.datasets import fit_image, list_images
from mmcim.engine.data_parallel import begin_loader_worker
from mmcim.utils.errors import ConfigError
from mmcim.utils.terminal import track

ImageLike = str | Path | Image.Image
Images = str | Path | Sequence[ImageLike]


def load_backbone(
    path: str | Path, device: str | torch.device = 'cpu', **overrides: Any
) -> nn.Module:
    """Rebuild a trained backbone.

    Args:
        path: Exported backbone weights (``epoch_300_backbone.safetensors``) or the
            training checkpoint next to them (``epoch_300.pth``), of a pre-training,
            classifier or segmentor.
        device: Device of the backbone.
        **overrides: Arguments of the backbone in place of those that it was trained
            with, such as ``img_size`` (position embeddings are resized), ``out_type`` or
            ``out_indices``.

    Returns:
        The backbone in evaluation mode, without parts that only pre-training needs, such
        as mask tokens, and with all parameters trainable. Its attribute ``normalization``
        is the mean and the std of R, G and B of its images, on the scale 0..255, or None
        if the file does not record them.

    Raises:
        ConfigError: If the file is missing, damaged or has no record of its backbone, or
            if the weights do not fit.

    Example:
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> backbone(torch.rand(2, 3, 224, 224))[-1].shape
        torch.Size([2, 768, 14, 14])
        >>> backbone = load_backbone(
        ...     'epoch_300_backbone.safetensors', img_size=384, out_type='cls_token')
        >>> backbone(torch.rand(2, 3, 384, 384))[-1].shape
        torch.Size([2, 768])
    """
    file = BackboneFile.read(path)
    backbone = file.build(**overrides)
    load_into(backbone, file)
    return backbone.to(device)


@torch.no_grad()
def extract_features(
    backbone: nn.Module,
    images: Images,
    batch_size: int = 64,
    img_size: int | tuple[int, int] | None = None,
    out_type: str | None = None,
    read: Callable[[Tensor], Tensor] | None = None,
    num_workers: int = 0,
    progress: bool = False,
) -> Tensor:
    """Compute one feature vector, or other features, per image.

    Images are normalised as in the backbone's training (``backbone.normalization``).
    Files are read as in training, see :func:`mmcim.datasets.read_image`. Files and PIL
    images are rotated upright, resized to the backbone's input size with a bicubic
    filter, and cropped at the longer side. Feature maps and patch tokens are averaged
    over the image; ``out_type='cls_token'`` or ``'avg_featmap'`` of a backbone are
    vectors already. ``mmcim embed`` writes the same to a file.

    Args:
        backbone: From :func:`load_backbone`, on any device, which is where it computes.
        images: A folder, all of whose images are taken, in the order of
            ``list_images(folder).files``; or paths or PIL images.
        batch_size: Images at a time.
        img_size: Height and width that files and PIL images are resized to. By default
            the backbone's own, or 224 if it has none.
        out_type: What a transformer returns, in place of its own setting; it is not
            averaged. 'featmap' asks any backbone for feature maps, (B, C, h, w).
        read: Gives what is kept of a batch; all by default.
        num_workers: Processes that read files while the backbone computes, at most as
            many as there are full batches. With a PIL image in the list there are none.
        progress: Whether to show a line of progress.

    Returns:
        (N, D), or what ``out_type`` and ``read`` make of each image, float32, on the CPU,
        in the order of the images. Workers have no influence on it, and the batch size
        none beyond the rounding of float32.

    Raises:
        ConfigError: If the backbone has no feature maps, and they are asked for, if an
            image cannot be read, or if the backbone does not specify how images are
            normalised.
        ValueError: If the mode of a PIL image leaves open which value is white.

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
        raise ConfigError(
            'this backbone does not specify how images are normalised; set '
            'backbone.normalization = (mean, std), three values each, on the scale 0..255'
        )
    images, size = image_list(images), input_size(backbone, img_size)
    weight = next(backbone.parameters())
    device = weight.device
    if any(isinstance(image, Image.Image) for image in images):
        num_workers = 0  # processes would share the position in an opened file
    batches: Any = DataLoader(
        images,  # type: ignore[arg-type]
        batch_size,
        num_workers=min(num_workers, len(images) // batch_size),
        collate_fn=partial(read_images, size=size),
        pin_memory=weight.is_cuda,
        worker_init_fn=begin_loader_worker,
        generator=torch.Generator(),  # the global one stays as it is
    )
    if progress:
        batches = track(batches, f'Features of {len(images)} images')
    mean, std = (torch.tensor(v, device=device).view(3, 1, 1) for v in normalization)
    training = backbone.training
    backbone.train(False)
    network: Any = copy(backbone)  # of the same parts, with its own attributes
    if out_type and hasattr(network, 'out_type'):
        network.out_type = out_type
    found = []
    try:
        for batch in batches:
            batch = (batch.to(device, non_blocking=True) - mean) / std
            outputs = network(batch.to(weight.dtype))
            outputs = outputs if isinstance(outputs, Tensor) else outputs[-1]
            if out_type == 'featmap' and outputs.ndim != 4:
                raise ConfigError(f'{type(backbone).__name__} gives no feature maps')
            if out_type is None:
                outputs = pool(backbone, outputs)
            found.append((read(outputs) if read else outputs).cpu())
    finally:
        backbone.train(training)
    return torch.cat(found).float()


def image_list(images: Images) -> Sequence[ImageLike]:
    """List the images of a folder; a list of images stays as it is."""
    if isinstance(images, str | Path):
        return [os.path.join(images, file) for file in list_images(images).files]
    return images


def input_size(backbone: nn.Module, img_size: Any) -> tuple[int, int]:
    """Height and width that images are resized to, see :func:`extract_features`."""
    size = img_size or getattr(backbone, 'img_size', 224)  # a ResNet has none
    return (size, size) if isinstance(size, int) else tuple(size)


def read_images(images: Sequence[ImageLike], size: tuple[int, int]) -> Tensor:
    """Read, resize and crop images.

    Args:
        images: Paths or PIL images.
        size: Height and width, see :func:`mmcim.datasets.fit_image`.

    Returns:
        (B, 3, H, W), uint8, RGB.

    Raises:
        ConfigError: If one cannot be read.
        ValueError: If the mode of a PIL image leaves open which value is white.
    """
    return torch.stack([_load(image, size) for image in images])


def _load(image: ImageLike, size: tuple[int, int]) -> Tensor:
    # I;16, too: Pillow would clip the values.
    if isinstance(image, Image.Image) and image.mode[0] in 'IF':
        raise ValueError(f'PIL images of mode {image.mode} are ambiguous; give the file')
    return pil_to_tensor(fit_image(image, size))


def pool(backbone: nn.Module, features: Tensor) -> Tensor:
    """Average what is not a vector, (B, C, h, w) or tokens (B, N, C), to (B, C)."""
    if features.ndim == 4:
        return features.mean(dim=(2, 3))
    if features.ndim == 3:
        return features[:, getattr(backbone, 'num_extra_tokens', 0) :].mean(dim=1)
    return features

# Copyright (c) mmcim contributors. All rights reserved.
"""The base class of discrete image tokenizers: interface and freezing."""

import logging
from abc import ABCMeta, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from mmengine.logging import print_log
from mmengine.model import BaseDataPreprocessor, BaseModel, BaseModule
from torch import Tensor, nn

from mmcim.checkpoints import read_weights
from mmcim.checkpoints.layout import tensors_below
from mmcim.checkpoints.record import tensors_sha256
from mmcim.utils.errors import ConfigError

# Fraction of the patches of a batch with the same code.
_COLLAPSED = 0.9


def freeze(module: nn.Module) -> nn.Module:
    """Convert every parameter and buffer of a module to a non-persistent buffer.

    The tensors still follow ``.to(device)``, but are in neither ``parameters()``
    nor ``state_dict()``: no optimizer, checkpoint or distributed wrapper finds
    them.

    Args:
        module: Changed in place.

    Returns:
        The same module, in eval mode.
    """
    for child in module.modules():
        tensors = {**child._parameters, **child._buffers}
        for name, tensor in tensors.items():
            delattr(child, name)
            if tensor is not None:
                tensor = tensor.detach()
            child.register_buffer(name, tensor, persistent=False)
    return module.eval()


def warn_if_collapsed(ids: Tensor) -> None:
    """Warn if almost all patches of a batch have the same code.

    Predicting it would look like success: a loss near 0 and an accuracy near 1.

    Args:
        ids: int64, at least 0, of any shape.
    """
    if ids.flatten().bincount().max() >= _COLLAPSED * ids.numel():
        print_log(
            f'The tokenizer gives one code to at least {_COLLAPSED:.0%} of the patches '
            'of a batch, which makes its tokens meaningless. Look at the images; train '
            'the tokenizer with a higher kl_weight, longer, or at a lower learning rate',
            logger='current',
            level=logging.WARNING,
        )


class BaseTokenizer(BaseModule, metaclass=ABCMeta):
    """A frozen pair of functions between images and grids of discrete codes.

    A subclass sets :attr:`vocab_size` and :attr:`stride`, implements
    :meth:`_encode`, :meth:`_decode` and :meth:`_network`, and in its constructor gets
    its network from :meth:`_load` and ends with ``freeze(self)``.

    A tokenizer is frozen by construction: it has no parameters and an empty state
    dict, stays in eval mode, builds no graph, and no initialisation of a parent
    module reaches it. It sets its own precision and ignores an outer autocast.

    Args:
        chunk_size: Images that are encoded or decoded at a time: fewer take less memory.
    """

    vocab_size: int
    """Number of codes; ids are in ``[0, vocab_size)``."""

    stride: int
    """Side, in pixels, of the square of the image that one id stands for."""

    expected: str
    """The kind of checkpoint, for the error when it is another."""

    prefix = ''
    """What the names of its tensors may begin with in a checkpoint of its training."""

    identity: dict[str, str]
    """What the ids mean: ``type`` (class name), ``source`` and ``sha256``."""

    _has_encoded = False

    def __init__(self, chunk_size: int = 64) -> None:
        super().__init__()
        self.chunk_size = chunk_size

    def check_fit(self, model: BaseModel, key: str, inputs: BaseDataPreprocessor) -> None:
        """Check that a model that predicts tokens can learn them.

        Args:
            model: Owner of the ``backbone`` and the ``head`` that predict.
            key: The model's key in the config, for the message.
            inputs: The data preprocessor that makes the images to encode.

        Raises:
            ValueError: If the numbers of tokens or the grids differ.
        """
        if model.head.vocab_size != self.vocab_size:
            raise ValueError(
                f"set {key}.head.vocab_size={self.vocab_size}, the tokenizer's"
            )
        grid = tuple(model.backbone.patch_resolution)
        fitting = tuple(side * self.stride for side in grid)
        found = inputs.tokenizer_size or model.backbone.img_size
        if tuple(found) != fitting:
            raise ValueError(
                f'a tokenizer of stride {self.stride} gives a grid of {grid} patches for '
                f'{fitting} pixels, not for {tuple(found)}; set '
                f'model.data_preprocessor.tokenizer_size={fitting} or another patch size'
            )

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Encode images as ids.

        Args:
            images: (B, 3, H, W), floating point, RGB in [0, 1], whose sides are
                multiples of the stride. The range is not checked, which would
                synchronise with a GPU.

        Returns:
            (B, H / stride, W / stride) int64, in ``[0, vocab_size)``.

        Raises:
            TypeError: If the images are not floating point.
            ValueError: If a side is not a multiple of the stride.
        """
        if not images.is_floating_point():
            raise TypeError(f'images are {images.dtype}, not floating point in [0, 1]')
        shape = tuple(images.shape)
        if any(side % self.stride for side in shape[-2:]):  # the rest would be left out
            raise ValueError(f'sides must be multiples of {self.stride}, got {shape}')
        with torch.autocast(images.device.type, enabled=False):
            parts = images.split(self.chunk_size)
            ids = torch.cat([self._encode(part.float()) for part in parts])
        if not self._has_encoded:  # looking at every batch would slow a GPU down
            self._has_encoded = True
            warn_if_collapsed(ids)
        return ids

    @torch.no_grad()
    def decode(self, ids: Tensor) -> Tensor:
        """Decode ids to images.

        Args:
            ids: (B, h, w) int64 in ``[0, vocab_size)``; an id out of range raises
                an ``IndexError`` on a CPU and a device assertion on a GPU.

        Returns:
            (B, 3, h * stride, w * stride) float32, RGB in [0, 1].
        """
        with torch.autocast(ids.device.type, enabled=False):
            return torch.cat([self._decode(part) for part in ids.split(self.chunk_size)])

    @abstractmethod
    def _encode(self, images: Tensor) -> Tensor:
        """Ids of float32 images, whose sides are multiples of the stride."""

    @abstractmethod
    def _decode(self, ids: Tensor) -> Tensor:
        """Images of ids."""

    @classmethod
    def _network(cls, tensors: dict[str, Tensor]) -> nn.Module:
        """Build the network of a checkpoint, and give its tensors the network's names.

        Args:
            tensors: Those of the checkpoint; changed in place.

        Raises:
            KeyError: If one is missing whose shape is needed.
            ValueError: If one belongs to another network.
        """
        raise NotImplementedError

    @classmethod
    def build(cls, tensors: dict[str, Tensor], source: str) -> nn.Module:
        """Build the network of a checkpoint, and load every tensor in float32.

        Args:
            tensors: Those of the checkpoint.
            source: Where they come from, for the error.

        Raises:
            ConfigError: If a tensor is missing, is unexpected or has another shape.
        """
        tensors = {name: tensor.float() for name, tensor in tensors.items()}
        try:
            with torch.device('meta'):
                network = cls._network(tensors)
            network.load_state_dict(tensors, assign=True)
        except (KeyError, ValueError, RuntimeError) as error:
            missing = 'missing ' if isinstance(error, KeyError) else ''
            problem = ' '.join(str(error).split())
            raise ConfigError(
                f'{source} does not fit: {missing}{problem}. {cls.expected}'
            ) from error
        return network

    def _load(self, checkpoint: str) -> Any:
        """Read the weights, note their identity and build their network."""
        try:
            tensors = read_weights(checkpoint).tensors
        except ConfigError as error:
            raise ConfigError(f'{error}. {self.expected}') from error
        tensors = tensors_below(self.prefix, tensors) or tensors
        sha256 = tensors_sha256(tensors)
        name = type(self).__name__
        self.identity = dict(type=name, source=str(checkpoint), sha256=sha256)
        return self.build(tensors, checkpoint)

    def train(self, mode: bool = True) -> 'BaseTokenizer':
        """Stay in eval mode, regardless of ``mode``."""
        return super().train(False)

    def init_weights(self) -> None:
        """Do nothing: the weights came from the checkpoint."""

    def apply(self, fn: Callable[[nn.Module], None]) -> 'BaseTokenizer':
        """Hide the sub-modules from a parent's ``apply``, which initialises layers."""
        fn(self)
        return self

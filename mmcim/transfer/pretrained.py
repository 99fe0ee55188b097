# Copyright (c) mmcim contributors. All rights reserved.
"""``init_cfg=dict(type='Pretrained', ...)`` that keeps its promise."""

from mmengine.model import PretrainedInit
from mmengine.model.weight_init import update_init_info
from mmengine.registry import WEIGHT_INITIALIZERS
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import nn

from ..utils.errors import ConfigError
from .loader import load_backbone_weights
from .resize import Grid


@WEIGHT_INITIALIZERS.register_module(name='Pretrained', force=True)
class Pretrained(PretrainedInit):
    """Initialise a module of mmpretrain, mmseg or mmengine with pre-trained weights.

    It takes the place of mmengine's initializer, which warns about what has not been
    loaded and leaves it random. Here that is an error, and names and positions are
    adapted; see :func:`mmcim.transfer.load_backbone_weights`.

    Args:
        checkpoint (str): A file, or a URL such as ``https://``, ``torchvision://`` or
            ``open-mmlab://``.
        prefix (str, optional): What the names of the tensors in the file begin with.
            By default it is looked for.
        map_location (str): Where the file is read to. Defaults to 'cpu'.
        grid (tuple[int, int], optional): Rows and columns of patches of the file's
            network, if they are no square and the file does not tell.

    Raises:
        ConfigError: If not all of the backbone's weights are there, or would not stay.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        grid: Grid | None = None,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.grid = None if grid is None else tuple(grid)

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a module."""
        if isinstance(module, BaseBackbone) and isinstance(module.init_cfg, list):
            # They look for a dict of type 'Pretrained' to know that they must not.
            raise ConfigError(
                f'init_cfg of a {type(module).__name__} is a list, and then mmpretrain '
                'initialises some of its tensors after they have been loaded from '
                f"{self.checkpoint}; give init_cfg=dict(type='Pretrained', ...) alone"
            )
        load_backbone_weights(
            module, self.checkpoint, self.prefix, self.grid, self.map_location
        )
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())

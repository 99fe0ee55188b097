# Copyright (c) mmcim contributors. All rights reserved.
"""Learning rates that fall with the depth of a backbone's layer."""

from mmengine.model import BaseModel
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS

from .constructor import NetworkwiseOptimWrapperConstructor


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(NetworkwiseOptimWrapperConstructor):
    """Layer-wise learning-rate decay for classifiers and segmentors alike.

    A parameter of the backbone at depth d of D learns at ``lr * rate ** (D - 1 - d)``,
    everything outside of the backbone at ``lr``. The depth is what the backbone's own
    ``get_layer_depth`` says, which mmpretrain's backbones have: 0 for embeddings and
    stems, i + 1 for transformer layer i, D - 1, the same as outside, for the final norm
    and, as in BEiT, for a table of relative positions that all layers share.

    What decays in weight is as in :class:`NetworkwiseOptimWrapperConstructor`:
    one-dimensional parameters, biases, class tokens and position embeddings never do.

    Args:
        optim_wrapper_cfg: The wrapper's config with its ``optimizer``, whose
            ``lr`` has to be given.
        paramwise_cfg: With ``layer_decay_rate`` in (0, 1]; the rest as in
            :class:`mmengine.optim.DefaultOptimWrapperConstructor`, whose multipliers
            apply on top.

    Raises:
        ValueError: If the rate or the learning rate is missing or out of range, or, on
            use, if the model's backbone cannot tell its parameters' depths.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.rate = self.paramwise_cfg.get('layer_decay_rate')
        if not isinstance(self.rate, (int, float)) or not 0 < self.rate <= 1:
            raise ValueError(
                'optim_wrapper.paramwise_cfg.layer_decay_rate must be a number above 0 '
                f'and at most 1, but is {self.rate}'
            )
        if self.base_lr is None:
            raise ValueError('optim_wrapper.optimizer.lr is missing, which is scaled')

    def _lr_scale(self, model: BaseModel, name: str) -> float:
        try:
            depth, count = model.backbone.get_layer_depth(name, 'backbone.')
        except (AttributeError, NotImplementedError) as error:
            raise ValueError(
                'LayerDecayOptimWrapperConstructor needs a model whose backbone has '
                f'get_layer_depth(param_name, prefix); that of {type(model).__name__} '
                f'has none, or not for {name} (of ResNets, those of 50 layers and more '
                'have it). Without layer-wise decay: '
                "optim_wrapper.constructor='mmpretrain.NetworkwiseOptimWrapperConstructor'"
            ) from error
        return self.rate ** (count - 1 - depth)

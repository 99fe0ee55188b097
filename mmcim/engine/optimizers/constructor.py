# Copyright (c) mmcim contributors. All rights reserved.
"""Parameter groups: what decays, of which network, and at which learning rate."""

import re
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.optim import DefaultOptimWrapperConstructor, OptimWrapper
from mmengine.registry import OPTIMIZERS
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import Tensor, nn, optim

# As in BEiT, where mask tokens and relative position bias tables do decay.
_NEVER_DECAYED = ('cls_token', 'pos_embed', 'position_embedding')
# What mmengine's constructor reads, and those of this package.
_ARGUMENTS = {'bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys'}
_ARGUMENTS |= {'dcn_offset_lr_mult', 'dwconv_decay_mult', 'flat_decay_mult'}
_ARGUMENTS |= {'layer_decay_rate', 'norm_decay_mult', 'stage_wise'}
_FUSED = (optim.Adam, optim.AdamW, optim.SGD)
_OTHER_KERNELS = {'differentiable', 'foreach'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NetworkwiseOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """A few parameter groups per sub-model, with BEiT's rule of what decays.

    * Frozen parameters get no optimizer state.
    * One-dimensional parameters, biases, ``cls_token`` and position embeddings never
      decay. Everything else does, unless ``paramwise_cfg`` says otherwise.
    * Parameters with the same hyper-parameters and the same sub-model form one group.
    * AdamW, Adam and SGD run as one fused kernel, unless ``optimizer.fused`` says
      otherwise, and whatever the checkpoint was trained with that a run resumes from.
    * A sub-model is a child of the model that is a complete model itself, as
      ``generator`` and ``enhancer`` are in :class:`CIM`; its name is the group's
      ``network``. The remaining parameters, all of them in a classifier, have none.

    Args:
        optim_wrapper_cfg: The wrapper's config with its ``optimizer``.
        paramwise_cfg: See
            :class:`mmengine.optim.DefaultOptimWrapperConstructor`. Defaults to None.

    Raises:
        ValueError: If ``paramwise_cfg`` has a key that nothing reads.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        # mmengine walks over the parameters only if there is some option, and counts
        # shared ones twice without this one.
        paramwise_cfg = {'bypass_duplicate': True, **(paramwise_cfg or {})}
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.optimizer_cfg: dict = optim_wrapper_cfg['optimizer']
        kind = self.optimizer_cfg.get('type')
        kind = OPTIMIZERS.get(kind) if isinstance(kind, str) else kind
        if kind in _FUSED and not self.optimizer_cfg.keys() & _OTHER_KERNELS:
            self.optimizer_cfg = {'fused': True, **self.optimizer_cfg}
        for name in paramwise_cfg.keys() - _ARGUMENTS:
            raise ValueError(f'paramwise_cfg has no {name!r}, only {sorted(_ARGUMENTS)}')

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the optimizer of a model and its wrapper."""
        wrapper = super().__call__(model)
        wrapper.optimizer.register_load_state_dict_pre_hook(_keep_fused)
        wrapper.optimizer.register_load_state_dict_post_hook(_lay_out)
        return wrapper

    def add_params(
        self, params: list[dict], module: nn.Module, prefix: str = '', **kwargs: Any
    ) -> None:
        """Add the groups of ``module`` to ``params``; see the class.

        Args:
            params: The groups so far, extended in place.
            module: The model, or in recursion a part of it.
            prefix: The part's name, '' for the model. Defaults to ''.
            **kwargs: mmengine's mark of deformable convolutions.
        """
        # mmengine would warn about each parameter of a frozen module.
        if any(param.requires_grad for param in module.parameters()):
            super().add_params(params, module, prefix, **kwargs)
        if prefix == '':
            params[:] = self._merge(params, module)

    def _merge(self, singles: list[dict], model: nn.Module) -> list[dict]:
        names = {id(p): name for name, p in model.named_parameters()}
        groups: dict[str, dict] = {}
        for group in singles:
            (param,) = group.pop('params')
            name = names[id(param)]
            network, last = name.split('.')[0], name.split('.')[-1]
            if param.ndim <= 1 or last == 'bias' or last.startswith(_NEVER_DECAYED):
                group['weight_decay'] = 0.0
            elif self.base_wd is not None:
                group.setdefault('weight_decay', self.base_wd)
            if self.base_lr is not None:
                group.setdefault('lr', self.base_lr)
                group['lr'] *= self._lr_scale(model, name)
            if isinstance(getattr(model, network), BaseModel):
                group['network'] = network
            key = repr(sorted(group.items()))
            groups.setdefault(key, {**group, 'params': []})['params'].append(param)
        return list(groups.values())

    def _lr_scale(self, model: BaseModel, name: str) -> float:
        """What the learning rate of a parameter is multiplied by."""
        return 1


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDecayOptimWrapperConstructor(NetworkwiseOptimWrapperConstructor):
    """Layer-wise learning-rate decay for classifiers and segmentors.

    A parameter of the backbone at depth d of D learns at ``lr * rate ** (D - 1 - d)``,
    everything outside of the backbone at ``lr``. The depth is what the backbone's own
    ``get_layer_depth`` says, which mmpretrain's backbones have: 0 for embeddings and
    stems, i + 1 for transformer layer i, D - 1, the same as outside, for the final norm
    and, as in BEiT, for a table of relative positions that all layers share.

    With ``stage_wise`` all blocks of a ResNet's stage share a depth, as in ConvNeXt's
    segmentation: of 8 depths the stem has 0, stage i has i, and everything outside of the
    backbone 7.

    What decays in weight is as in :class:`NetworkwiseOptimWrapperConstructor`:
    one-dimensional parameters, biases, class tokens and position embeddings never do.

    Args:
        optim_wrapper_cfg: The wrapper's config with its ``optimizer``, whose
            ``lr`` has to be given.
        paramwise_cfg: With ``layer_decay_rate`` in (0, 1], and ``stage_wise``, False
            by default; the rest as in
            :class:`mmengine.optim.DefaultOptimWrapperConstructor`, whose multipliers
            apply on top.

    Raises:
        ValueError: If the rate or the learning rate is missing or out of range, or, on
            use, if the model's backbone does not define the depths of its parameters.
    """

    def __init__(
        self, optim_wrapper_cfg: dict, paramwise_cfg: dict | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        self.rate = self.paramwise_cfg.get('layer_decay_rate')
        number = isinstance(self.rate, float | int)
        if not (self.base_lr and number and 0 < self.rate <= 1):
            raise ValueError(
                'optim_wrapper needs paramwise_cfg.layer_decay_rate, above 0 and at most '
                f'1, and optimizer.lr, but has {self.rate} and {self.base_lr}'
            )

    def _lr_scale(self, model: BaseModel, name: str) -> float:
        try:
            depth, count = model.backbone.get_layer_depth(name, 'backbone.')
        except (AttributeError, NotImplementedError) as error:
            raise ValueError(
                'layer_decay_rate needs a backbone with get_layer_depth (as ResNet-50 '
                f'has it), but {type(model).__name__} has none for {name}; or set '
                "optim_wrapper.constructor='mmpretrain.NetworkwiseOptimWrapperConstructor'"
            ) from error
        if self.paramwise_cfg.get('stage_wise'):
            stage = re.match(r'backbone\.layer(\d)', name)
            inside = name.startswith('backbone.')
            depth, count = int(stage[1]) if stage else 0 if inside else 7, 8
        return self.rate ** (count - 1 - depth)


def _keep_fused(optimizer: optim.Optimizer, state_dict: dict) -> dict:
    """Change how a loaded optimizer computes to how this one does."""
    own = {k: v for k, v in optimizer.defaults.items() if k == 'fused'}
    groups = [{**group, **own} for group in state_dict['param_groups']]
    return {**state_dict, 'param_groups': groups}


def _lay_out(optimizer: optim.Optimizer) -> None:
    """Lay the loaded state out in memory as the parameters are.

    Fused kernels pair their elements in the order of memory, which ``channels_last``
    changes.
    """
    for param, state in optimizer.state.items():
        for name, value in state.items():
            if isinstance(value, Tensor) and value.shape == param.shape:
                state[name] = torch.empty_like(param, dtype=value.dtype).copy_(value)

# Copyright (c) mmcim contributors. All rights reserved.
"""Parameter groups: what decays, and which network a parameter belongs to."""

from mmengine.model import BaseModel
from mmengine.optim import DefaultOptimWrapperConstructor
from mmpretrain.registry import OPTIM_WRAPPER_CONSTRUCTORS
from torch import nn

# As in BEiT, where mask tokens and tables of relative positions do decay.
_NEVER_DECAYED = ('cls_token', 'pos_embed', 'position_embedding')
# What mmengine's constructor reads, and those of this package.
_ARGUMENTS = {'bias_decay_mult', 'bias_lr_mult', 'bypass_duplicate', 'custom_keys'}
_ARGUMENTS |= {'dcn_offset_lr_mult', 'dwconv_decay_mult', 'flat_decay_mult'}
_ARGUMENTS |= {'layer_decay_rate', 'norm_decay_mult'}


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class NetworkwiseOptimWrapperConstructor(DefaultOptimWrapperConstructor):
    """A few parameter groups per network, with BEiT's rule of what decays.

    * Frozen parameters get no optimizer state.
    * One-dimensional parameters, biases, ``cls_token`` and position embeddings never
      decay. Everything else does, unless ``paramwise_cfg`` says otherwise.
    * Parameters with the same hyper-parameters and the same network form one group, on
      which an optimizer steps at once.
    * A network is a child of the model that is a complete model itself, as
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
        for name in paramwise_cfg.keys() - _ARGUMENTS:
            raise ValueError(
                f'paramwise_cfg has no argument {name!r}, only {sorted(_ARGUMENTS)}'
            )

    def add_params(
        self,
        params: list[dict],
        module: nn.Module,
        prefix: str = '',
        is_dcn_module: int | float | None = None,
    ) -> None:
        """Add the groups of ``module`` to ``params``; see the class.

        Args:
            params: The groups so far, extended in place.
            module: The model, or in recursion a part of it.
            prefix: The part's name, '' for the model. Defaults to ''.
            is_dcn_module: mmengine's mark of deformable
                convolutions. Defaults to None.
        """
        # mmengine would warn of each parameter of a frozen network.
        if any(param.requires_grad for param in module.parameters()):
            super().add_params(params, module, prefix, is_dcn_module)
        if prefix == '':
            params[:] = self._merge(params, module)

    def _merge(self, singles: list[dict], model: nn.Module) -> list[dict]:
        names = {id(p): name for name, p in model.named_parameters()}
        groups: dict[str, dict] = {}
        for group in singles:
            (param,) = group.pop('params')
            name = names[id(param)]
            if self._never_decays(name, param):
                group['weight_decay'] = 0.0
            elif self.base_wd is not None:
                group.setdefault('weight_decay', self.base_wd)
            if self.base_lr is not None:
                group.setdefault('lr', self.base_lr)
                group['lr'] *= self._lr_scale(model, name)
            network = name.split('.')[0]
            if isinstance(getattr(model, network), BaseModel):
                group['network'] = network
            key = repr(sorted(group.items()))
            groups.setdefault(key, {**group, 'params': []})['params'].append(param)
        return list(groups.values())

    def _lr_scale(self, model: nn.Module, name: str) -> float:
        """What the learning rate of a parameter is multiplied by."""
        return 1

    @staticmethod
    def _never_decays(name: str, param: nn.Parameter) -> bool:
        last = name.split('.')[-1]
        return param.ndim <= 1 or last == 'bias' or last.startswith(_NEVER_DECAYED)

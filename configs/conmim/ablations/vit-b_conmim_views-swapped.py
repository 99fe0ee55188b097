"""The masked view is the strong one, that of the momentum encoder the weak one."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

data_preprocessor = dict(
    online_augment={{_base_.data_preprocessor.momentum_augment}},
    momentum_augment=None,
)

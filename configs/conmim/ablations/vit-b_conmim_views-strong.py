"""Both views are strong, each with draws of its own."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

data_preprocessor = dict(
    online_augment={{_base_.data_preprocessor.momentum_augment}},
)

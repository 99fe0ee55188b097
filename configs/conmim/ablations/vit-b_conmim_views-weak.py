"""Both views are weak: no colours are changed."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

data_preprocessor = dict(momentum_augment=None)

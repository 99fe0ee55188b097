"""Square boxes."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(aspect_ratio=(1.0, 1.0)))

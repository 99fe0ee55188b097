"""Exemplars from 20 to 100 % of the image, the released code's default."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(scale=(0.2, 1.0)))

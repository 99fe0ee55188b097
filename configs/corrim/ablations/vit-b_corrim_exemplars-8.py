"""8 exemplars per image instead of six."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(num=8))

"""Exemplars of 32 px, 2 x 2 patches."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(size=32))

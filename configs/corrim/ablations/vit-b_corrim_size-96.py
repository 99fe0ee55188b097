"""Exemplars of 96 px, 6 x 6 patches."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(size=96))

"""Exemplars are not rotated."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(degrees=(0, 0)))

"""Exemplars from 5 to 25 % of the image."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(scale=(0.05, 0.25)))

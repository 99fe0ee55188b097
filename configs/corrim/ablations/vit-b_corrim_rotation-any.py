"""Exemplars are rotated by any angle."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(exemplars=dict(degrees=(-180, 179), fit='centred'))

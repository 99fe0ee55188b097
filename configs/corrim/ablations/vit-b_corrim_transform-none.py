"""Exemplars keep their colours and are not flipped."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

data_preprocessor = dict(augment=None, exemplar_flip_prob=0.0)

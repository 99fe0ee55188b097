"""Samples that equal the golden token count as replaced, too."""

_base_ = '../vit-b_revdet_8xb256-300e.py'

model = dict(enhancer=dict(correct_samples_as='replaced'))

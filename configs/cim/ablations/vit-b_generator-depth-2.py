"""A generator of 2 layers."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(generator=dict(backbone=dict(arch=dict(num_layers=2))))

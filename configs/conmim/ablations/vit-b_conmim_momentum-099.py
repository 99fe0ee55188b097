"""The momentum rises from 0.99 instead of 0.996."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(momentum=0.99)

"""The momentum stays at 0.996."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(end_momentum=0.996)

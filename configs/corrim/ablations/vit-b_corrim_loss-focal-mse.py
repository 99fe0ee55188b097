"""Mean squared error with a focal weight instead of cross-entropy."""

_base_ = '../vit-b_corrim_8xb256-accum2-300e.py'

model = dict(head=dict(objective='focal_mse'))

"""ResPix by the squared error alone."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(enhancer=dict(head=dict(l1_weight=0.0, l2_weight=1.0)))

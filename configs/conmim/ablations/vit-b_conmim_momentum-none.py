"""No momentum: the keys come from the same weights as the queries."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(momentum=0.0, end_momentum=0.0)

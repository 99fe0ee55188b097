"""50 % of the squares of 32 px are masked instead of 75 %."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(masking=dict(ratio=0.50))

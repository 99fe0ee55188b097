"""Temperature 0.07 instead of 0.1."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(head=dict(temperature=0.07))

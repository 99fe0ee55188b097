"""Any token of the vocabulary replaces each masked one, instead of a plausible one."""

_base_ = '../vit-b_revdet_8xb256-300e.py'

model = dict(generator=dict(sampling='uniform'))

"""Any token of the vocabulary replaces each masked one, instead of a plausible one."""

_base_ = '../resnet50_8xb256-300e.py'

model = dict(generator=dict(sampling='uniform'))

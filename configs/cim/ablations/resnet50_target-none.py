"""ResPix restores the pixels as they are, without a sliding window's statistics."""

_base_ = '../resnet50_8xb256-300e.py'

model = dict(enhancer=dict(head=dict(target_norm=None)))

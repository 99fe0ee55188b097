"""The window of statistics of ResPix's target has 6 px instead of 8."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(
    enhancer=dict(head=dict(target_norm=dict(type='SlidingWindowNorm', window=6)))
)

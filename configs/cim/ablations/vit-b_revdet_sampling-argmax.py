"""The likeliest token replaces each masked one, instead of a sample."""

_base_ = '../vit-b_revdet_8xb256-300e.py'

model = dict(generator=dict(sampling='argmax'))

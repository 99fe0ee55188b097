"""40 % of the patches are masked, the same number in every image."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(masking=dict(_delete_=True, type='RatioMasking', ratio=0.40))

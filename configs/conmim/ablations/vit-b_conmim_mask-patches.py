"""Single patches of 16 px are masked instead of squares of 32 px."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(masking=dict(mask_patch_size=1))

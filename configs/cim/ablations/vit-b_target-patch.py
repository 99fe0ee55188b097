"""ResPix restores pixels normalised per patch, as in MAE."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(enhancer=dict(head=dict(target_norm=dict(type='PatchNorm', patch_size=16))))

"""SimMIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/baselines/vit-s_simmim_1xb128-300e_imagenette-128.py

Learning rate, batch and sizes are a choice.
"""

_base_ = ['../_base_/models/simmim_vit-b.py', '../_base_/pretrain_imagenette_128.py']

# Squares of 16 px, 2 x 2 patches, are masked.
model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384, encoder_stride=8),
    head=dict(patch_size=8),
)

optim_wrapper = dict(
    optimizer=dict(lr=3e-4, betas=(0.9, 0.999)), clip_grad=dict(max_norm=5.0)
)

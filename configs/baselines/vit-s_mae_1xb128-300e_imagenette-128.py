"""MAE, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/baselines/vit-s_mae_1xb128-300e_imagenette-128.py

Learning rate, batch and sizes are a choice.
"""

_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/pretrain_imagenette_128.py']

model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(num_patches=256, patch_size=8, embed_dim=384),
    head=dict(patch_size=8),
)

optim_wrapper = dict(optimizer=dict(lr=4e-4, betas=(0.9, 0.95)), clip_grad=None)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]

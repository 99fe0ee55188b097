"""ConMIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/conmim/vit-s_conmim_1xb128-300e_imagenette-128.py

The settings of ViT-S/16 at 224 px but for the sizes and the batch are a choice.
"""

_base_ = ['../_base_/models/conmim_vit-b.py', '../_base_/pretrain_imagenette_128.py']

# 48 of 8 x 8 squares of 16 px are masked.
model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384),
)
# The blur is about half of that of 224 px.
data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(type='StrongAugment', blur_sigma=(0.1, 1.0)),
)

sync_bn = 'torch'

optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=None)
param_scheduler = [{**_base_.warm_up, 'end': 5}, {**_base_.cosine, 'begin': 5}]

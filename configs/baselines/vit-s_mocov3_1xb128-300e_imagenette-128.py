"""MoCo v3, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/baselines/vit-s_mocov3_1xb128-300e_imagenette-128.py

Learning rate, batch and sizes are a choice; MoCo v3's ViT-S has 12 heads.
"""

_base_ = ['../_base_/models/mocov3_vit-b.py', '../_base_/pretrain_imagenette_128.py']

model = dict(
    backbone=dict(arch='mocov3-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384),
)

# The blur is about half of that of 224 px.
data_preprocessor = dict(
    type='TwoCropsDataPreprocessor',
    crop_augments=[
        dict(
            type='StrongAugment', blur_prob=1.0, blur_sigma=(0.1, 1.0), solarize_prob=0.0
        ),
        dict(type='StrongAugment', blur_sigma=(0.1, 1.0)),
    ],
)
train_pipeline = [
    _base_.load,
    dict(type='MultiView', num_views=2, transforms=[[_base_.crop]]),
    _base_.pack,
]

sync_bn = 'torch'

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, betas=(0.9, 0.999), weight_decay=0.1), clip_grad=None
)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]

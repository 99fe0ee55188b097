"""CorrIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/corrim/vit-s_corrim_1xb128-300e_imagenette-128.py

Contexts of 80 px and exemplars of 32 px keep the proportions of ImageNet.
"""

_base_ = ['../_base_/models/corrim_vit-b.py', '../_base_/pretrain_imagenette_128.py']

# Contexts of 10 x 10 patches of 8 px and exemplars of 4 x 4.
model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384),
)
data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=80,
    exemplars=dict(type='ExemplarSampling', size=32),
    augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, 1.0)),
)

train_pipeline = [
    _base_.load,
    {**_base_.crop, 'crop_ratio_range': (0.5, 1.0)},
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=5e-4, betas=(0.9, 0.95)), clip_grad=None)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]

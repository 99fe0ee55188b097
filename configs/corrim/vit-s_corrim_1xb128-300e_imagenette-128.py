"""CorrIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/corrim/vit-s_corrim_1xb128-300e_imagenette-128.py

Contexts of 80 px and exemplars of 32 px keep the proportions of ImageNet.
"""

_base_ = [
    '../_base_/models/corrim_vit-b.py',
    '../_base_/datasets/imagenette_pretrain_128.py',
    '../_base_/schedules/adamw_cosine_corrim_300e.py',
    '../_base_/default_runtime.py',
]

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
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))
optim_wrapper = dict(optimizer=dict(lr=5e-4), accumulative_counts=1)
auto_scale_lr = dict(base_batch_size=128)

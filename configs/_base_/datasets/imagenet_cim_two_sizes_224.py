# ImageNet-1k with BEiT's own pipeline on the CPU, for comparisons with BEiT: colour
# jitter, flip, one crop resized twice (bicubic 224, Lanczos 112).
# CIM itself has no jitter; imagenet_cim_224.py is faster.
_base_ = ['imagenet_cim_224.py']

train_pipeline = [
    dict(type='LoadImage', ignore_empty=True),
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomResizedCropTwoSizes',
        scale=224,
        second_scale=112,
        crop_ratio_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        interpolation='bicubic',
        second_interpolation='lanczos'),
    dict(type='PackInputs'),
]

train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

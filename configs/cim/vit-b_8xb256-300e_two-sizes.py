"""CIM-ResPix with BEiT's data pipeline on the CPU, and its blockwise masks.

For an exact comparison with BEiT: colour jitter, flip, one crop resized twice (bicubic
224, Lanczos 112), blocks of patches. CIM itself has neither the jitter nor the blocks.
About three times the work of the loader.
"""

_base_ = './vit-b_8xb256-300e.py'

train_pipeline = [
    _base_.load,
    dict(type='ColorJitter', brightness=0.4, contrast=0.4, saturation=0.4),
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    dict(
        type='RandomResizedCropTwoSizes',
        scale=224,
        second_scale=112,
        crop_ratio_range=(0.08, 1.0),
        aspect_ratio_range=(3 / 4, 4 / 3),
        interpolation='bicubic',
        second_interpolation='lanczos',
    ),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(masking=dict(_delete_=True, type='BlockMasking'))

"""CIM-ResPix with BEiT's data pipeline and blockwise masks, all made on the CPU.

For an exact comparison with BEiT: colour jitter, flip, one crop resized twice (bicubic
224, Lanczos 112), blockwise mask. CIM itself has neither the jitter nor the blocks. About
three times the loader's work.
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
    dict(
        type='BEiTBlockMask',
        input_size=(14, 14),
        num_masking_patches=75,
        min_num_patches=16,
    ),
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
model = dict(masking=None)  # the pipeline makes the masks

# Its masks come with the training images.
test_dataloader = test_cfg = test_evaluator = None

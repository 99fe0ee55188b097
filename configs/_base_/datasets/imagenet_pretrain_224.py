# ImageNet-1k for pre-training: one 224 px crop per image leaves the loader as uint8; flip
# and normalisation are done on the device.
# The images lie in data/imagenet/train/, in folders or not; labels are not read.
data_preprocessor = dict(
    type='DevicePreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    flip_prob=0.5,
    non_blocking=True,
)

load = dict(type='LoadImage', ignore_empty=True)
crop = dict(
    type='RandomResizedCrop',
    scale=224,
    crop_ratio_range=(0.08, 1.0),
    aspect_ratio_range=(3 / 4, 4 / 3),
    interpolation='bicubic',
    backend='pillow',  # Pillow's filters are antialiased, OpenCV's are not
)
pack = dict(type='PackInputs')
train_pipeline = [load, crop, pack]

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/imagenet',
        data_prefix='train',
        with_label=False,
        pipeline=train_pipeline,
    ),
)

resize = dict(
    type='ResizeEdge', scale=224, edge='short', interpolation='bicubic', backend='pillow'
)
test_pipeline = [
    dict(type='LoadImage'),
    resize,
    dict(type='CenterCrop', crop_size=224),
    pack,
]

# tools/test.py CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/imagenet',
        data_prefix='val',
        with_label=False,
        pipeline=test_pipeline,
    ),
)
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

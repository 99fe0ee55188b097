# Pre-training on ImageNet-1k for 300 epochs: one 224 px crop per image leaves the loader
# as uint8; flip and normalisation are done on the device.
# The images lie in data/imagenet/train/, in folders or not; labels are not read.
_base_ = './default_runtime.py'

data_preprocessor = dict(
    type='DevicePreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    flip_prob=0.5,
)

load = dict(type='LoadImage', ignore_empty=True)
crop = dict(
    type='AntialiasedRandomResizedCrop',
    scale=224,
    crop_ratio_range=(0.08, 1.0),
    aspect_ratio_range=(3 / 4, 4 / 3),
    interpolation='bicubic',
)
views = dict(type='MultiView', num_views=2, transforms=[[crop]])  # of Siamese methods
pack = dict(type='PackInputs')
train_pipeline = [load, crop, pack]

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=False,
    drop_last=True,
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
    type='AntialiasedResizeEdge', scale=224, edge='short', interpolation='bicubic'
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

# AdamW, cosine after 10 epochs of warm-up, for an effective batch of 2048. The learning
# rate follows the effective batch (see auto_scale_lr).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-4,
    by_epoch=True,
    begin=0,
    end=10,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min=1e-5,
    by_epoch=True,
    begin=10,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=2048)

# Imagenette (10 classes of ImageNet, 9,469 training pictures) at 128 px for CIM.
# The pictures lie in data/imagenette128/train/<class>/; labels are not read.
data_preprocessor = dict(
    type='CIMDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    flip_prob=0.5,
    view_size=64)  # half the size, as 112 is of 224

train_pipeline = [
    dict(type='LoadImage', ignore_empty=True),
    dict(
        type='RandomResizedCrop',
        scale=128,
        crop_ratio_range=(0.2, 1.0),  # a smaller part of 128 px would be blurred
        interpolation='bicubic',
        backend='pillow'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=256,
    num_workers=8,
    persistent_workers=False,
    worker_init_fn=dict(type='mmcim_worker_init_fn'),
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root='data/imagenette128',
        data_prefix='train',
        with_label=False,
        pipeline=train_pipeline))

test_pipeline = [
    dict(type='LoadImage'),
    dict(
        type='ResizeEdge',
        scale=128,
        edge='short',
        interpolation='bicubic',
        backend='pillow',
    ),
    dict(type='CenterCrop', crop_size=128),
    dict(type='PackInputs'),
]

# tools/test.py CONFIG CHECKPOINT gives the losses on these pictures.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='CustomDataset',
        data_root='data/imagenette128',
        data_prefix='val',
        with_label=False,
        pipeline=test_pipeline,
    ),
)
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

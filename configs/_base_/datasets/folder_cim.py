# Your own folder of images, with or without sub-folders, for CIM at 128 px:
#   tools/train.py CONFIG --cfg-options train_dataloader.dataset.data_root=/my/images
# Labels are not read. An image that cannot be read is skipped with a warning.
data_preprocessor = dict(
    type='CIMDataPreprocessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
    flip_prob=0.5,  # 0 where left and right matter
    tokenizer_size=64)

train_pipeline = [
    dict(type='LoadImage', ignore_empty=True),
    dict(
        type='RandomResizedCrop',
        scale=128,
        crop_ratio_range=(0.2, 1.0),
        interpolation='bicubic',
        backend='pillow'),
    dict(type='PackInputs'),
]

train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/my_images',
        subset='train',
        with_label=False,
        pipeline=train_pipeline))

test_pipeline = [
    dict(type='LoadImage', ignore_empty=True),
    dict(
        type='ResizeEdge',
        scale=128,
        edge='short',
        interpolation='bicubic',
        backend='pillow'),
    dict(type='CenterCrop', crop_size=128),
    dict(type='PackInputs'),
]

# tools/test.py CONFIG CHECKPOINT reports the metrics of the fifth that is kept out.
test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/my_images',
        subset='val',
        with_label=False,
        pipeline=test_pipeline))
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

# Your image folder, with or without sub-folders, at 64 px:
#   --cfg-options train_dataloader.dataset.data_root=/my/images
tokenizer_checkpoint = 'work_dirs/quickstart_images/tokenizer/iter_400.pth'
size = dict(img_size=64, patch_size=8)
normalize = dict(mean=[123.675, 116.28, 103.53], std=[58.395, 57.12, 57.375], to_rgb=True)
data_preprocessor = dict(
    type='CIMDataPreprocessor',
    **normalize,
    flip_prob=0.5,  # 0 where left and right matter
    tokenizer_size=32,
)

load = dict(type='LoadImage', ignore_empty=True)
crop = dict(
    type='AntialiasedRandomResizedCrop',
    scale=64,
    crop_ratio_range=(0.3, 1.0),
    interpolation='bicubic',
)
pack = dict(type='PackInputs')
train_pipeline = [load, crop, pack]

images = dict(type='ImageFolder', data_root='data/images')
train_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='InfiniteSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(images, subset='train', with_label=False, pipeline=train_pipeline),
)

resize = dict(
    type='AntialiasedResizeEdge', scale=64, edge='short', interpolation='bicubic'
)
test_pipeline = [
    dict(type='LoadImage'),
    resize,
    dict(type='CenterCrop', crop_size=64),
    pack,
]

# tools/test.py CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=64,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(images, subset='val', with_label=False, pipeline=test_pipeline),
)
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

# What a classifier reads: images in <class>/*. A fifth of them is for validation.
flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
labelled = dict(
    train=dict(
        images, subset='train', pipeline=[dict(type='LoadImage'), crop, flip, pack]
    ),
    val=dict(images, subset='val', pipeline=test_pipeline),
)

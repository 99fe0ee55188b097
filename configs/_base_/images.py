# Pre-training on a folder of images, with the values of a preset.
_base_ = ['{{$MMCIM_PRESET:./presets/64px.py}}', './default_runtime.py']

data_preprocessor = dict(
    type='DevicePreprocessor',
    **_base_.normalize,
    flip_prob=0.5,  # 0 where left and right matter
)

image_size = _base_.size.img_size
load = dict(type='LoadImage', ignore_empty=True)
crop = dict(
    type='AntialiasedRandomResizedCrop',
    scale=image_size,
    crop_ratio_range=(0.2, 1.0),
    interpolation='bicubic',
)
pack = dict(type='PackInputs')
train_pipeline = [load, crop, pack]

train_dataloader = dict(
    batch_size=_base_.batch_size,
    num_workers=_base_.num_workers,
    persistent_workers=False,
    drop_last=True,
    sampler=dict(type='InfiniteSampler'),
    collate_fn=dict(type='default_collate'),
    dataset=dict(_base_.images, with_label=False, pipeline=train_pipeline),
)

resize = dict(
    type='AntialiasedResizeEdge', scale=image_size, edge='short', interpolation='bicubic'
)
test_pipeline = [
    dict(type='LoadImage'),
    resize,
    dict(type='CenterCrop', crop_size=image_size),
    pack,
]

# mmcim test CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=_base_.batch_size,
    num_workers=_base_.num_workers,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(_base_.val_images, with_label=False, pipeline=test_pipeline),
)
test_cfg = dict(type='SelfSupTestLoop')
test_evaluator = []

# Warm-up is a tenth of the training.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=_base_.max_iters)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=_base_.lr, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
)
warm_up_iters = max(1, _base_.max_iters // 10)
warm_up = dict(
    type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=warm_up_iters
)
cosine = dict(
    type='CosineAnnealingLR', eta_min_ratio=0.01, by_epoch=False, begin=warm_up_iters
)
param_scheduler = [warm_up, cosine]

default_hooks = dict(
    checkpoint=dict(
        by_epoch=False,
        interval=min(1000, max(1, _base_.max_iters // 10)),
        max_keep_ckpts=1,
    ),
    watch=dict(interval=max(1, _base_.max_iters // 4)),
)
log_processor = dict(by_epoch=False)
randomness = dict(seed=0)
load_from = _base_.weights

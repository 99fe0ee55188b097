# ImageNet-1k for classification: data/imagenet/{train,val}/<class>/. Few labels:
#   --cfg-options train_dataloader.dataset.fraction=0.01  (or .num_per_class=13)
data_preprocessor = dict(
    type='ClsDataPreprocessor',
    num_classes=1000,
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    to_rgb=True,
)

load = dict(type='LoadImage', ignore_empty=True)
crop = dict(
    type='RandomResizedCrop',
    scale=224,
    interpolation='bicubic',
    backend='pillow',  # Pillow's filters are antialiased, OpenCV's are not
)
flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
pack = dict(type='PackInputs')
train_pipeline = [load, crop, flip, pack]

resize = dict(
    type='ResizeEdge', scale=256, edge='short', interpolation='bicubic', backend='pillow'
)
center_crop = dict(type='CenterCrop', crop_size=224)
test_pipeline = [dict(type='LoadImage'), resize, center_crop, pack]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=True),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='FewLabels',  # all of them, unless fraction or num_per_class is given
        dataset=dict(
            type='ImageFolder',
            data_root='data/imagenet',
            data_prefix='train',
            pipeline=train_pipeline,
        ),
    ),
)

val_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(
        type='ImageFolder',
        data_root='data/imagenet',
        data_prefix='val',
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='Accuracy', topk=(1, 5))

test_dataloader = val_dataloader
test_evaluator = val_evaluator

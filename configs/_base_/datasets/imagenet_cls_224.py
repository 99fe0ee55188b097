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
    type='AntialiasedRandomResizedCrop',
    scale=224,
    interpolation='bicubic',
)
flip = dict(type='FastRandomFlip', prob=0.5, direction='horizontal')
pack = dict(type='PackInputs')
train_pipeline = [load, crop, flip, pack]

# What fine-tuning adds to crop and flip. Colours are those of the loaded image, BGR.
# RandAugment mstd0.5-inc1; each procedure of "ResNet strikes back" has its own
# magnitude_level.
rand_augment = dict(
    type='FastRandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)
# BEiT's, with erased rectangles of noise. Its script also names colour jitter 0.4, which
# timm leaves out beside RandAugment.
beit_augment = [
    {**rand_augment, 'magnitude_level': 9},
    dict(
        type='FastRandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395],
    ),
]

resize = dict(
    type='AntialiasedResizeEdge', scale=256, edge='short', interpolation='bicubic'
)
center_crop = dict(type='CenterCrop', crop_size=224)
test_pipeline = [dict(type='LoadImage'), resize, center_crop, pack]

train_dataloader = dict(
    batch_size=128,
    num_workers=8,
    persistent_workers=False,
    drop_last=True,
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

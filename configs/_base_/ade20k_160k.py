# ADE20K's 150 classes in crops of 512 px, from the official zip as it is:
#     unzip -q ADEChallengeData2016.zip -d data/ade
# Label 0 is not counted. Trained for 160,000 iterations.
_base_ = './seg_runtime.py'

crop_size = (512, 512)
scale = (2048, 512)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=crop_size,  # in training; tested images are not padded, as in mmsegmentation
)

load = dict(type='LoadImageFromFile')
annotate = dict(type='LoadAnnotations')
random_resize = dict(
    type='RandomResize', scale=scale, ratio_range=(0.5, 2.0), keep_ratio=True
)
crop = dict(type='RandomCrop', crop_size=crop_size, cat_max_ratio=0.75)
augment = [dict(type='RandomFlip', prob=0.5), dict(type='PhotoMetricDistortion')]
pack = dict(type='PackSegInputs')
train_pipeline = [load, annotate, random_resize, crop, *augment, pack]
resize = dict(type='Resize', scale=scale, keep_ratio=True)
test_pipeline = [load, resize, annotate, pack]

train_dataloader = dict(
    batch_size=2,
    num_workers=4,
    drop_last=True,
    sampler=dict(type='InfiniteSampler', shuffle=True),
    dataset=dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=4,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='ADE20KDataset',
        data_root='data/ade/ADEChallengeData2016',
        data_prefix=dict(
            img_path='images/validation', seg_map_path='annotations/validation'
        ),
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])
test_dataloader = val_dataloader
test_evaluator = val_evaluator

# tools/test.py --tta: BEiT's six scales of the same image, each also flipped. The short
# edge is never below the crop's, so that the first three are the same.
tta_model = dict(type='SegTTAModel')
tta_sizes = [
    {**resize, 'scale': (side * 4, side)} for side in (512, 512, 512, 640, 768, 896)
]
tta_flips = [
    dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)
]
tta_pipeline = [
    load,
    dict(type='TestTimeAug', transforms=[tta_sizes, tta_flips, [annotate], [pack]]),
]

# BEiT's recipe for a backbone with no supervised training, batch 16: AdamW with
# layer-wise decay, linear to zero after 1,500 iterations of warm-up.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=160000, val_interval=16000)
val_cfg = dict(type='ValLoop')
test_cfg = dict(type='TestLoop')
optim_wrapper = dict(
    type='OptimWrapper',
    constructor='mmpretrain.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=7e-4, betas=(0.9, 0.999), weight_decay=0.05),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=1500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=1500),
]
auto_scale_lr = dict(enable=True, base_batch_size=16)

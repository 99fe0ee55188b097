# ADE20K's 150 classes in crops of 512 px, from the official zip as it is:
#     unzip -q ADEChallengeData2016.zip -d data/ade
# Label 0 is not counted.
crop_size = (512, 512)
scale = (2048, 512)
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[123.675, 116.28, 103.53],
    std=[58.395, 57.12, 57.375],
    bgr_to_rgb=True,
    pad_val=0,
    seg_pad_val=255,
    size=crop_size,
    # Padded, not stretched, to whole patches; the padding is cut off the result.
    test_cfg=dict(size_divisor=32),
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

# tools/test.py --tta: six scales of the same image, each also flipped.
tta_model = dict(type='SegTTAModel')
tta_sizes = [
    {**resize, 'scale': (side * 4, side)} for side in (256, 384, 512, 640, 768, 896)
]
tta_flips = [
    dict(type='RandomFlip', prob=prob, direction='horizontal') for prob in (0.0, 1.0)
]
tta_pipeline = [
    load,
    dict(type='TestTimeAug', transforms=[tta_sizes, tta_flips, [annotate], [pack]]),
]

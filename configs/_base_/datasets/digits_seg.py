# Scenes of four digits at 48 px for segmentation into background and ten digits. The 40
# for training are labelled; turning makes more of them.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[79.5, 79.5, 79.5],
    std=[91.0, 91.0, 91.0],
    size=(48, 48),
    seg_pad_val=255,
)

train_pipeline = [
    dict(type='RandomRotate', prob=1.0, degree=10, pad_val=0, seg_pad_val=0),
    dict(type='PackSegInputs'),
]

test_pipeline = [dict(type='PackSegInputs')]

train_dataloader = dict(
    batch_size=4,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='InfiniteSampler'),
    dataset=dict(
        type='mmpretrain.DigitScenes',
        split='train',
        size=24,
        num_scenes=40,
        pipeline=train_pipeline,
    ),
)

val_dataloader = dict(
    batch_size=50,
    num_workers=0,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='mmpretrain.DigitScenes',
        split='val',
        size=24,
        num_scenes=100,
        pipeline=test_pipeline,
    ),
)
val_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

test_dataloader = val_dataloader
test_evaluator = val_evaluator

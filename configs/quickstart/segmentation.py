"""Quickstart, step 3: segment scenes of digits with UperNet, 40 labelled scenes.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Random weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = '../_base_/seg_runtime.py'

# Scenes of four digits at 48 px: background and ten digits.
data_preprocessor = dict(
    type='SegDataPreProcessor',
    mean=[79.5, 79.5, 79.5],
    std=[91.0, 91.0, 91.0],
    size=(48, 48),
    seg_pad_val=255,
)

# The backbone of cim_respix.py. The scenes are twice as large as the
# digits, so that position embeddings are resized.
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    data_preprocessor=data_preprocessor,
    backbone=dict(
        type='mmpretrain.FixedPositionViT',
        arch=dict(
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        ),
        img_size=48,
        patch_size=4,
        final_norm=False,
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/quickstart/cim_respix/iter_400_backbone.safetensors',
        ),
    ),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=96,
        rescales=[2, 1, 0.5, 0.25],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[96, 96, 96, 96],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=32,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        # Two thirds of the pixels are background, which would be all that is learnt.
        loss_decode=dict(
            type='CrossEntropyLoss', class_weight=[0.1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

# The 40 for training are labelled; rotating makes more of them.
pack = dict(type='PackSegInputs')
rotate = dict(type='RandomRotate', prob=1.0, degree=10, pad_val=0, seg_pad_val=0)
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
        pipeline=[rotate, pack],
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
        pipeline=[pack],
    ),
)
test_dataloader = val_dataloader
val_evaluator = test_evaluator = dict(type='IoUMetric', iou_metrics=['mIoU'])

# 20 iterations with layer-wise decay, evaluated at the end.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=20)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='mmpretrain.AutoAmpOptimWrapper',
    constructor='mmpretrain.LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=4e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=2),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=2, end=20),
]

default_hooks = dict(
    logger=dict(interval=10),
    checkpoint=dict(interval=20, max_keep_ckpts=1, save_best=None),
    # The scenes are in no files.
    visualization=dict(type='mmpretrain.InputVisualizationHook'),
)
log_processor = dict(window_size=10)
randomness = dict(seed=0)

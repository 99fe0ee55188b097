r"""DINO on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/dino.py --work-dir $W/dino
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/dino/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/dino_vit-b.py', '../_base_/quickstart.py']

model = dict(
    # With the positions and the initial weights of the other methods here.
    backbone=dict(
        _delete_=True,
        type='FixedPositionViT',
        arch=_base_.arch,
        img_size=24,
        patch_size=4,
        drop_path_rate=0.1,
    ),
    # Without batch norms the teacher becomes uniform here, at a loss of log(512) = 6.2.
    neck=dict(
        in_channels=96,
        hid_channels=256,
        bottleneck_channels=64,
        out_channels=512,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(out_channels=512),
    momentum=0.99,
)

# Each digit is rotated, moved and stretched twice, differently; it has no colours. Local
# crops are half as large.
augment = dict(
    type='StrongAugment', grey_prob=0.0, blur_sigma=(0.1, 0.5), solarize_prob=0.0
)
data_preprocessor = dict(
    type='MultiCropDataPreprocessor',
    crop_augments=[dict(augment, blur_prob=1.0), augment],
    num_per_crop=2,
    local_size=12,
    local_scale=(0.15, 0.5),
    local_augment=dict(augment, blur_prob=0.5),
)
train_pipeline = [_base_.to_pil, _base_.views, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=5e-4, betas=(0.9, 0.999), weight_decay=0.04),
    clip_per_parameter=True,
)
weight_decay = dict(
    type='CosineAnnealingParamScheduler',
    param_name='weight_decay',
    eta_min_ratio=10.0,
    by_epoch=False,
)
param_scheduler = [_base_.warm_up, _base_.cosine, weight_decay]
custom_hooks = [
    dict(
        type='DINOHook',
        teacher_temperature=(0.04, 0.04),
        warm_up=1,
        freeze=20,
        by_epoch=False,
    )
]

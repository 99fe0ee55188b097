# Fine-tuning of ResNet-50 by procedure A3 of "ResNet strikes back": a binary
# cross-entropy averaged over the classes, as in timm (LAMB would clip the gradient of the
# sum in every step), and mixed images. The labels of mixed images are soft, as in
# mmpretrain's runs of A2 (79.55) and A3 (78.30) from scratch; in the paper they are 1.
_base_ = './default_runtime.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/resnet50_8xb256-300e/epoch_300_backbone.safetensors',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        # mmpretrain's is the sum over the classes.
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True, loss_weight=1 / 1000),
    ),
    # One of the two for each batch, with equal probability.
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]
    ),
)

# LAMB, 100 epochs, cosine after 5 epochs of warm-up, for an effective batch of 2048.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='Lamb', lr=8e-3, weight_decay=0.02),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-4,
    by_epoch=True,
    begin=0,
    end=5,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min=1e-6,
    by_epoch=True,
    begin=5,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=2048)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

# MAE's linear probing: LARS without weight decay, 90 epochs, cosine to 0 after 10 epochs
# of warm-up, for an effective batch of 16384; batch norm without parameters between the
# frozen features and the classifier.
_base_ = ['./models/cls_vit-b_frozen.py', './default_runtime.py']

model = dict(
    neck=[_base_.model.neck, dict(type='ClsBatchNormNeck', input_features=768)],
    head=dict(init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)),
)

train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=90, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    # As in MAE, the trust ratio is for the matrix alone.
    paramwise_cfg=dict(custom_keys={'bias': dict(always_adapt=False)}),
    optimizer=dict(
        type='timm.optim.Lars', lr=6.4, momentum=0.9, weight_decay=0.0, always_adapt=True
    ),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-4,
    by_epoch=True,
    begin=0,
    end=10,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min=0.0,
    by_epoch=True,
    begin=10,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=16384)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

# Procedure A3 of "ResNet strikes back": LAMB, 100 epochs, cosine after 5 epochs of
# warm-up, for an effective batch of 2048.
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
    end=100,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=2048)

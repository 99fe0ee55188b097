# AdamW, 300 epochs, cosine after 10 epochs of warm-up, for an effective batch of 2048.
# The learning rate follows the effective batch (see auto_scale_lr).
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=300)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
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
    eta_min=1e-5,
    by_epoch=True,
    begin=10,
    end=300,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=2048)

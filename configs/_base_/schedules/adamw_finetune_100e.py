# BEiT's fine-tuning: AdamW with layer-wise decay, 100 epochs, cosine after 20 epochs of
# warm-up, for an effective batch of 1024. Both ends are 1e-6 outside of the backbone and
# decay with the layers, as the learning rate does.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=0.05),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-6 / 4e-3,
    by_epoch=True,
    begin=0,
    end=20,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min_ratio=1e-6 / 4e-3,
    by_epoch=True,
    begin=20,
    end=100,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=1024)

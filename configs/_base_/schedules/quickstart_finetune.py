# 100 iterations of a small classifier with layer-wise decay, evaluated at the end.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=100, val_interval=100)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(type='AdamW', lr=3e-3, weight_decay=0.05, fused=True),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.1, by_epoch=False, begin=0, end=10),
    dict(type='CosineAnnealingLR', eta_min=0, by_epoch=False, begin=10, end=100),
]
val_cfg = dict()

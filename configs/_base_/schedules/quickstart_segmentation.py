# 20 iterations of a small segmentor with layer-wise decay, evaluated at the end.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=20, val_interval=20)
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
val_cfg = dict()
test_cfg = dict()

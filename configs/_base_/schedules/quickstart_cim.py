# 400 iterations of a small CIM, whatever the number of images.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=400)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05, fused=True
    ),
    clip_grad=dict(max_norm=3.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=40, end=400),
]

# 400 iterations for a small discrete VAE, whatever the number of images.
train_cfg = dict(type='IterBasedTrainLoop', max_iters=400)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(
        type='AdamW', lr=3e-3, betas=(0.9, 0.98), weight_decay=1e-4, fused=True
    ),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=20),
    dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=20, end=400),
]

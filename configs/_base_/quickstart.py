# Runs of 400 iterations on handwritten digits, repeatable.
_base_ = ['./datasets/digits.py', './default_runtime.py']

# The ViT of all of them, with the data's image and patch size, `_base_.size`.
arch = dict(embed_dims=96, num_layers=4, num_heads=3, feedforward_channels=384)

train_cfg = dict(type='IterBasedTrainLoop', max_iters=400)
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='AdamW', lr=1.5e-3, betas=(0.9, 0.98), weight_decay=0.05),
    clip_grad=dict(max_norm=3.0),
)
warm_up = dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=40)
cosine = dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=40)
param_scheduler = [warm_up, cosine]

default_hooks = dict(
    logger=dict(interval=20),
    checkpoint=dict(by_epoch=False, interval=200, max_keep_ckpts=1),
    watch=dict(interval=100),
)
log_processor = dict(by_epoch=False, window_size=20)
randomness = dict(seed=0)

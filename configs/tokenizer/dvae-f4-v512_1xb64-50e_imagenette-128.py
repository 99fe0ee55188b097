"""Discrete VAE, 4 px, 512 codes, Imagenette at 128 px, 50 epochs, for one GPU.

    python tools/train.py configs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128.py

Then, in a CIM config:

    tokenizer=dict(
        type='DiscreteVAE', checkpoint='work_dirs/.../epoch_50.pth')
"""

_base_ = '../_base_/pretrain_imagenette_128.py'

model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet', stride=4, vocab_size=512, width=128, depth=2, code_dims=128
    ),
    # Photographs need a smaller weight than drawings: their pixels are harder.
    kl_weight=(1e-3, 1e-4),
)

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=64)
train_dataloader = dict(batch_size=64)

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(
    _delete_=True,
    type='AutoAmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=200),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.05,
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=64)

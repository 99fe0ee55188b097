"""Discrete VAE, 8 px, 8192 codes, ImageNet-1k at CIM's 112 px, 20 epochs.

    tools/dist_train.sh configs/tokenizer/dvae-f8-v8192_8xb64-20e_imagenet.py 8

Then, in a CIM config:

    tokenizer=dict(
        type='DiscreteVAE', checkpoint='work_dirs/.../epoch_20.pth')
"""

_base_ = '../_base_/pretrain_imagenet_224.py'

model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=8,
        vocab_size=8192,
        width=256,
        depth=4,
        code_dims=256,
    ),
    # Photographs need a smaller weight than drawings: their pixels are harder.
    kl_weight=(1e-3, 1e-4),
)

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=112)
train_dataloader = dict(batch_size=64)

train_cfg = dict(max_epochs=20)
optim_wrapper = dict(
    _delete_=True,
    type='AutoAmpOptimWrapper',
    optimizer=dict(type='AdamW', lr=1e-3, betas=(0.9, 0.99), weight_decay=1e-4),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=1000),
    dict(
        type='CosineAnnealingLR',
        eta_min_ratio=0.05,
        by_epoch=True,
        begin=0,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(base_batch_size=512)

"""A discrete VAE on a folder of images; `mmcim pretrain DIR` trains it first."""

_base_ = '../_base_/images.py'

model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=_base_.size.patch_size * _base_.tokenizer_size // _base_.image_size,
        vocab_size=_base_.vocab_size,
        width=64,
        depth=2,
        code_dims=128,
    ),
    # Photographs need a smaller weight than drawings: their pixels are harder.
    kl_weight=(1e-3, 1e-4),
)
data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=_base_.tokenizer_size)
optim_wrapper = dict(
    optimizer=dict(lr=2e-3, betas=(0.9, 0.99), weight_decay=1e-4), clip_grad=None
)
load_from = None

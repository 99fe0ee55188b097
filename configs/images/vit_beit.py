"""BEiT, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/beit_vit-b.py', '../_base_/images.py']

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=_base_.tokenizer_size)
model = dict(
    tokenizer=dict(_delete_=True, **_base_.tokenizer),
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch), **_base_.size, drop_path_rate=0.0
    ),
    head=dict(embed_dims=_base_.arch.embed_dims, vocab_size=_base_.vocab_size),
)
# Only relative positions distinguish masked patches; their biases start at zero and
# have a few thousand steps to grow.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

"""ConMIM, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/conmim_vit-b.py', '../_base_/images.py']

width = _base_.arch.embed_dims
model = dict(
    backbone=dict(arch=dict(_delete_=True, **_base_.arch), **_base_.size),
    neck=dict(in_channels=width, hid_channels=4 * width),
)
# The blur grows with the image.
data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(
        type='StrongAugment', blur_sigma=(0.1, _base_.size.img_size / 112)
    ),
)
sync_bn = 'torch'
# As in vit_beit.py.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

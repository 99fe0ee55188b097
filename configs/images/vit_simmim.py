"""SimMIM, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/simmim_vit-b.py', '../_base_/images.py']

patch_size = _base_.size.patch_size
model = dict(
    backbone=dict(arch=dict(_delete_=True, **_base_.arch), **_base_.size),
    neck=dict(in_channels=_base_.arch.embed_dims, encoder_stride=patch_size),
    head=dict(patch_size=patch_size),
)
# As in vit_beit.py.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

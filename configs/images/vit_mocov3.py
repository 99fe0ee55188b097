"""MoCo v3, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/mocov3_vit-b.py', '../_base_/images.py']

hidden = 8 * _base_.arch.embed_dims
model = dict(
    backbone=dict(arch=dict(_delete_=True, **_base_.arch), **_base_.size),
    neck=dict(in_channels=_base_.arch.embed_dims, hid_channels=hidden),
    head=dict(predictor=dict(hid_channels=hidden)),
)
# The blur grows with the image.
augment = dict(type='StrongAugment', blur_sigma=(0.1, _base_.size.img_size / 112))
data_preprocessor = dict(
    type='TwoCropsDataPreprocessor',
    crop_augments=[dict(augment, blur_prob=1.0, solarize_prob=0.0), augment],
)
two_crops = dict(type='MultiView', num_views=2, transforms=[[_base_.crop]])
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, two_crops, _base_.pack]))
sync_bn = 'torch'
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999), weight_decay=0.1), clip_grad=None)

"""CorrIM, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/corrim_vit-b.py', '../_base_/images.py']

# Contexts of 5/7 of the image's side and exemplars of 2/7, in whole patches.
patch_size, img_size = _base_.size.patch_size, _base_.size.img_size
context = img_size // patch_size * 5 // 7
exemplar = img_size // patch_size * 2 // 7
width = _base_.arch.embed_dims
model = dict(
    backbone=dict(arch=dict(_delete_=True, **_base_.arch), **_base_.size),
    neck=dict(
        in_channels=width,
        grid=(context, context),
        embed_dims=width,
        num_heads=_base_.arch.num_heads,
    ),
    head=dict(in_channels=width),
    # The released head of large weights needs more than a few thousand steps.
    initial_weights='mocov3',
)
data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=context * patch_size,
    exemplars=dict(type='ExemplarSampling', size=exemplar * patch_size),
    augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, img_size / 112)),
)
crop = {**_base_.crop, 'crop_ratio_range': (0.5, 1.0)}
train_dataloader = dict(dataset=dict(pipeline=[_base_.load, crop, _base_.pack]))
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95)), clip_grad=None)

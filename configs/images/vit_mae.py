"""MAE, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/images.py']

patch_size, img_size = _base_.size.patch_size, _base_.size.img_size
width = _base_.arch.embed_dims
model = dict(
    backbone=dict(arch=dict(_delete_=True, **_base_.arch), **_base_.size),
    neck=dict(
        num_patches=(img_size // patch_size) ** 2,
        patch_size=patch_size,
        embed_dim=width,
        decoder_embed_dim=width // 2,
        decoder_depth=2,
        decoder_num_heads=_base_.arch.num_heads,
    ),
    head=dict(patch_size=patch_size),
)
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.95)), clip_grad=None)

"""CorrIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/corrim/vit-s_corrim_1xb128-300e_imagenette-128.py

Contexts of 80 px and exemplars of 32 px keep the proportions of ImageNet.
"""

_base_ = [
    '../_base_/models/corrim_vit-b.py',
    '../_base_/datasets/imagenette_corrim_128.py',
    '../_base_/schedules/adamw_cosine_corrim_300e.py',
    '../_base_/default_runtime.py',
]

# Contexts of 10 x 10 patches of 8 px and exemplars of 4 x 4.
model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384),
)

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=5e-4), accumulative_counts=1)
auto_scale_lr = dict(base_batch_size=128)

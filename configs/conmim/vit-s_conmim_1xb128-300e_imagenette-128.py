"""ConMIM, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/conmim/vit-s_conmim_1xb128-300e_imagenette-128.py

The settings of ViT-S/16 at 224 px but for the sizes and the batch are a choice.
"""

_base_ = [
    '../_base_/models/conmim_vit-b.py',
    '../_base_/datasets/imagenette_pretrain_128.py',
    '../_base_/schedules/adamw_cosine_conmim_300e.py',
    '../_base_/default_runtime.py',
]

# 48 of 8 x 8 squares of 16 px are masked.
model = dict(
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    neck=dict(in_channels=384),
)
# The blur is about half of that of 224 px.
data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(type='StrongAugment', blur_sigma=(0.1, 1.0)),
)

sync_bn = 'torch'

train_dataloader = dict(batch_size=128)
auto_scale_lr = dict(base_batch_size=128)

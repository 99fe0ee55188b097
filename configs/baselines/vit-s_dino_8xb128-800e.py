"""DINO, ViT-S/16, ImageNet-1k, 800 epochs.

    tools/dist_train.sh configs/baselines/vit-s_dino_8xb128-800e.py 8

The recipe of the authors' published ViT-S/16, with the differences of ViT-B/16. The last
layer's lengths are learned.
"""

_base_ = './vit-b_dino_8xb128-400e.py'

model = dict(
    backbone=dict(arch='deit-small'),
    neck=dict(in_channels=384, norm_last_layer=False),
)

train_cfg = dict(max_epochs=800)
optim_wrapper = dict(optimizer=dict(lr=2e-3))
custom_hooks = [dict(type='DINOHook', warm_up=30, freeze=1)]

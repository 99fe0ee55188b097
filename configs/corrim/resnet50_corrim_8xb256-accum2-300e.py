"""CorrIM, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/corrim/resnet50_corrim_8xb256-accum2-300e.py 8

The released code has ViT only: the recipe is that of ViT-B.
"""

_base_ = './vit-b_corrim_8xb256-accum2-300e.py'

# Contexts of 5 x 5 cells, exemplars of 2 x 2, with no class token.
model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50),
    neck=dict(in_channels=2048, grid=(5, 5)),
)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

"""CorrIM, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/corrim/resnet50_8xb256-accum2-300e.py 8

The released code has ViT only: the recipe is that of ViT-B.
"""

_base_ = [
    '../_base_/models/corrim_resnet50.py',
    '../_base_/datasets/imagenet_corrim_224.py',
    '../_base_/schedules/adamw_cosine_corrim_300e.py',
    '../_base_/default_runtime.py',
]


# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

"""CIM-ResPix, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/resnet50_8xb256-300e.py 8
"""

_base_ = [
    '../_base_/models/cim_resnet50.py',
    '../_base_/datasets/imagenet_cim_224.py',
    '../_base_/schedules/adamw_cosine_300e.py',
    '../_base_/default_runtime.py',
]

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

"""CIM-ResPix, ViT-S/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/vit-s_8xb256-300e.py 8

The paper: 81.5 top-1 fine-tuned for 200 epochs.
"""

_base_ = [
    '../_base_/models/cim_vit-s.py',
    '../_base_/datasets/imagenet_cim_224.py',
    '../_base_/schedules/adamw_cosine_300e.py',
    '../_base_/default_runtime.py',
]

"""ConMIM, ViT-S/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/conmim/vit-s_conmim_8xb256-300e.py 8

The paper: 82.0 top-1 fine-tuned at 224 px, 83.9 at 384 px. Its recipe is not known: that
it is that of ViT-B is a choice.
"""

_base_ = [
    '../_base_/models/conmim_vit-s.py',
    '../_base_/datasets/imagenet_conmim_224.py',
    '../_base_/schedules/adamw_cosine_conmim_300e.py',
    '../_base_/default_runtime.py',
]

sync_bn = 'torch'

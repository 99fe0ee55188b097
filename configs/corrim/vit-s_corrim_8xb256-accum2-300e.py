"""CorrIM, ViT-S/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/corrim/vit-s_corrim_8xb256-accum2-300e.py 8

No number of the paper for ViT-S is known.
"""

_base_ = './vit-b_corrim_8xb256-accum2-300e.py'

model = dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384))

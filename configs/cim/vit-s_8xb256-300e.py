"""CIM-ResPix, ViT-S/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/vit-s_8xb256-300e.py 8

Paper: 81.5 top-1 fine-tuned for 200 epochs.
"""

_base_ = './vit-b_8xb256-300e.py'

model = dict(
    generator=dict(
        backbone=dict(arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536)),
        head=dict(embed_dims=384),
    ),
    enhancer=dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384)),
)

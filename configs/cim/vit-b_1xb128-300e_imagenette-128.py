"""CIM-ResPix, ViT-B/8, Imagenette at 128 px, 300 epochs, for one GPU.

    python tools/train.py configs/cim/vit-b_1xb128-300e_imagenette-128.py
"""

_base_ = './vit-s_1xb128-300e_imagenette-128.py'

model = dict(
    generator=dict(
        backbone=dict(arch=dict(embed_dims=768, num_heads=12, feedforward_channels=3072)),
        head=dict(embed_dims=768),
    ),
    enhancer=dict(backbone=dict(arch='deit-base'), neck=dict(in_channels=768)),
)

"""CIM-ResPix, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

python tools/train.py configs/cim/vit-s_1xb128-300e_imagenette-128.py
"""

_base_ = './vit-b_1xb128-300e_imagenette-128.py'

model = dict(
    generator=dict(
        backbone=dict(arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536)),
        head=dict(embed_dims=384),
    ),
    enhancer=dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384)),
)

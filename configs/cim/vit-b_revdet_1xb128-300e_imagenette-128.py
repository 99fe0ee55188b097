"""CIM-RevDet, ViT-B/8, Imagenette at 128 px, 300 epochs, for one GPU.

python tools/train.py configs/cim/vit-b_revdet_1xb128-300e_imagenette-128.py
"""

_base_ = './vit-b_1xb128-300e_imagenette-128.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=768),
    )
)

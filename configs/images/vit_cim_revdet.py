"""CIM-RevDet, a ViT, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = './vit_cim_respix.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=_base_.arch.embed_dims),
    )
)

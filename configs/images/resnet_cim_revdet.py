"""CIM-RevDet, a ResNet, a folder of images; `mmcim pretrain DIR` trains it."""

_base_ = './resnet_cim_respix.py'

# Each cell of the feature map, 32 px, holds several tokens.
model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(
            type='RevDetHead',
            in_channels=_base_.resnet_width,
            upscale=32 // _base_.size.patch_size,
        ),
    )
)

"""CIM-RevDet, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/resnet50_revdet_8xb256-300e.py 8

Paper: 78.8 top-1 fine-tuned. Each cell of the 7 x 7 map holds 2 x 2 tokens.
"""

_base_ = 'resnet50_8xb256-300e.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=2048, upscale=2),
    )
)

"""CIM-RevDet, ViT-S/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/vit-s_revdet_8xb256-300e.py 8

Paper: 81.6 top-1 fine-tuned for 200 epochs.
"""

_base_ = 'vit-s_8xb256-300e.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=384),
    )
)

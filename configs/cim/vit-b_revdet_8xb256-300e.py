"""CIM-RevDet, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/cim/vit-b_revdet_8xb256-300e.py 8

Paper: 83.3 top-1 fine-tuned for 100 epochs.
"""

_base_ = 'vit-b_8xb256-300e.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=768),
    )
)

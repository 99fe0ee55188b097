"""CIM-ResPix, ResNet-50 with the generator of ViT-S/16, ImageNet-1k, 300 epochs.

tools/dist_train.sh configs/cim/resnet50_8xb256-300e.py 8
"""

_base_ = './vit-s_8xb256-300e.py'

model = dict(
    enhancer=dict(
        _delete_=True,
        type='ResPix',
        backbone=dict(type='ResNet', depth=50),
        neck=dict(type='SimMIMLinearDecoder', in_channels=2048, encoder_stride=32),
        head=dict(type='ResPixHead'),
    )
)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

"""CIM-ResPix, ResNet-50, Imagenette at 128 px, 300 epochs, for one small GPU.

python tools/train.py configs/cim/resnet50_1xb128-300e_imagenette-128.py
"""

_base_ = './vit-s_1xb128-300e_imagenette-128.py'

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

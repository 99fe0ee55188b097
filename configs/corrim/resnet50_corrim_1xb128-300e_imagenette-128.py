"""CorrIM, ResNet-50, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/corrim/resnet50_corrim_1xb128-300e_imagenette-128.py

Contexts keep the image's 128 px and exemplars have 64 px: its cells are of 32 px.
"""

_base_ = './vit-s_corrim_1xb128-300e_imagenette-128.py'

model = dict(
    backbone=dict(_delete_=True, type='ResNet', depth=50),
    neck=dict(in_channels=2048, grid=(4, 4)),
)
data_preprocessor = dict(context_size=128, exemplars=dict(size=64))

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

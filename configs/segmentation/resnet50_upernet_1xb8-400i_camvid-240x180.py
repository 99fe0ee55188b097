"""UperNet, ResNet-50, CamVid at 240 x 180 px, 400 iterations, minutes on a CPU.

    C=configs/segmentation/resnet50_upernet_1xb8-400i_camvid-240x180.py
    python tools/train.py $C

From random weights; from a pre-trained backbone: --pretrained FILE
"""

_base_ = './vit-tiny_upernet_1xb8-400i_camvid-240x180.py'

model = dict(
    backbone=dict(
        _delete_=True, type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3)
    ),
    neck=None,
    decode_head=dict(in_channels=[256, 512, 1024, 2048]),
    auxiliary_head=dict(in_channels=1024),
)

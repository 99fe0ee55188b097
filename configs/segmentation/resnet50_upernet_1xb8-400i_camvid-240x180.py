"""UperNet, ResNet-50, CamVid at 240 x 180 px, 400 iterations, minutes on a CPU.

    C=configs/segmentation/resnet50_upernet_1xb8-400i_camvid-240x180.py
    python tools/train.py $C

From random weights. From a pre-trained backbone: --cfg-options
model.backbone.init_cfg.type=Pretrained model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    '../_base_/models/upernet_resnet50.py',
    '../_base_/datasets/camvid_240x180.py',
    '../_base_/schedules/seg_400i.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    decode_head=dict(channels=64, num_classes=11),
    auxiliary_head=dict(channels=64, num_classes=11),
)

default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1)
)
randomness = dict(seed=0)

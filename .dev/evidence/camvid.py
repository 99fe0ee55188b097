"""CamVid's 11 classes at 240 x 180 px for the evidence's backbones, by one linear layer.

The whole network is trained; no pyramid hides what the backbone has learned.
"""

_base_ = '../../configs/segmentation/vit_upernet_1xb8-amp-2k_masks.py'

names = ('sky', 'building', 'pole', 'road', 'pavement', 'tree', 'sign symbol')
names += ('fence', 'car', 'pedestrian', 'bicyclist')
masks = dict(
    data_root='data/camvid', metainfo=dict(classes=names), reduce_zero_label=True
)
train_dataloader = dict(
    num_workers=0,
    dataset=dict(
        masks,
        data_prefix=dict(img_path='images/training', seg_map_path='annotations/training'),
    ),
)
val_dataloader = dict(
    num_workers=0,
    dataset=dict(
        masks, data_prefix=dict(img_path='images/test', seg_map_path='annotations/test')
    ),
)
test_dataloader = val_dataloader
model = dict(
    backbone=dict(img_size=(160, 224), out_indices=[5], final_norm=True),
    neck=None,
    decode_head=dict(
        _delete_=True,
        type='FCNHead',
        in_channels=128,
        channels=128,
        num_convs=0,
        concat_input=False,
        num_classes=11,
    ),
    auxiliary_head=None,
)
train_cfg = dict(max_iters=300, val_interval=300)

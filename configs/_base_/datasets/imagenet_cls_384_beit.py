# imagenet_cls_224_beit.py at 384 px; tests shrink the short edge to what they crop.
_base_ = 'imagenet_cls_224_beit.py'

train_pipeline = [
    _base_.train_pipeline[0],
    {**_base_.train_pipeline[1], 'scale': 384},
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(
    batch_size=64, dataset=dict(dataset=dict(pipeline=train_pipeline))
)

test_pipeline = [
    _base_.test_pipeline[0],
    {**_base_.test_pipeline[1], 'scale': 384},
    {**_base_.test_pipeline[2], 'crop_size': 384},
    _base_.test_pipeline[3],
]
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

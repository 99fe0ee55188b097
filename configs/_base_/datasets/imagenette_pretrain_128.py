# Imagenette (10 classes of ImageNet, 9,469 training images) at 128 px for pre-training.
# The images lie in data/imagenette128/train/<class>/; labels are not read.
_base_ = 'imagenet_pretrain_224.py'

train_pipeline = [
    _base_.train_pipeline[0],
    # A smaller part of 128 px than a fifth would be blurred.
    {**_base_.train_pipeline[1], 'scale': 128, 'crop_ratio_range': (0.2, 1.0)},
    _base_.train_pipeline[2],
]
test_pipeline = [
    _base_.test_pipeline[0],
    {**_base_.test_pipeline[1], 'scale': 128},
    dict(type='CenterCrop', crop_size=128),
    _base_.test_pipeline[3],
]

train_dataloader = dict(
    dataset=dict(data_root='data/imagenette128', pipeline=train_pipeline)
)
# tools/test.py CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(data_root='data/imagenette128', pipeline=test_pipeline),
)

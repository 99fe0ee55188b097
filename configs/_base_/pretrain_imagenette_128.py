# Pre-training on Imagenette (10 classes of ImageNet, 9,469 training images) at 128 px for
# 300 epochs, on one GPU.
# The images lie in data/imagenette128/train/<class>/; labels are not read.
_base_ = './pretrain_imagenet_224.py'

# A smaller part of 128 px than a fifth would be blurred.
crop = {**_base_.crop, 'scale': 128, 'crop_ratio_range': (0.2, 1.0)}
train_pipeline = [_base_.load, crop, _base_.pack]
test_pipeline = [
    dict(type='LoadImage'),
    {**_base_.resize, 'scale': 128},
    dict(type='CenterCrop', crop_size=128),
    _base_.pack,
]

train_dataloader = dict(
    batch_size=128,
    dataset=dict(data_root='data/imagenette128', pipeline=train_pipeline),
)
# tools/test.py CONFIG CHECKPOINT gives the losses on these images.
test_dataloader = dict(
    batch_size=128,
    num_workers=4,
    dataset=dict(data_root='data/imagenette128', pipeline=test_pipeline),
)
auto_scale_lr = dict(base_batch_size=128)

# Imagenette at 128 px for classification: data/imagenette128/{train,val}/<class>/.
# Few labels, fewer images than a batch:
#   --cfg-options train_dataloader.dataset.num_per_class=5 \
#       train_dataloader.drop_last=False
_base_ = 'imagenet_cls_224.py'

data_preprocessor = dict(num_classes=10)

crop = {**_base_.crop, 'scale': 128, 'crop_ratio_range': (0.2, 1.0)}
train_pipeline = [_base_.load, crop, _base_.flip, _base_.pack]
test_pipeline = [
    dict(type='LoadImage'),
    {**_base_.resize, 'scale': 128},
    dict(type='CenterCrop', crop_size=128),
    _base_.pack,
]

train_dataloader = dict(
    dataset=dict(dataset=dict(data_root='data/imagenette128', pipeline=train_pipeline))
)
val_dataloader = dict(
    dataset=dict(data_root='data/imagenette128', pipeline=test_pipeline)
)
test_dataloader = val_dataloader

# Imagenette at 128 px for CorrIM: contexts of 80 px and six exemplars of 32 px, half of
# those of ImageNet, are made on the device.
_base_ = 'imagenette_pretrain_128.py'

data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=80,
    exemplars=dict(type='ExemplarSampling', size=32),
    augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, 1.0)),
)

train_pipeline = [
    _base_.train_pipeline[0],
    {**_base_.train_pipeline[1], 'crop_ratio_range': (0.5, 1.0)},
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

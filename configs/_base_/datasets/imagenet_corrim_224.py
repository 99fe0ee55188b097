# ImageNet-1k for CorrIM: the images of CIM in larger crops. The 160 px context, six
# exemplars of 64 px and their label maps are made on the device.
_base_ = 'imagenet_pretrain_224.py'

data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=160,
    exemplars=dict(
        type='ExemplarSampling',
        num=6,
        size=64,
        scale=(0.05, 0.48),
        aspect_ratio=(1 / 3, 3.0),
        degrees=(-45, 44),  # as released; +45 does not occur
    ),
    augment=dict(
        type='StrongAugment',
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_prob=0.8,
        grey_prob=0.2,
        blur_prob=0.5,
        blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    ),
    exemplar_flip_prob=0.5,
)

train_pipeline = [
    _base_.train_pipeline[0],
    {**_base_.train_pipeline[1], 'crop_ratio_range': (0.5, 1.0)},
    *_base_.train_pipeline[2:],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

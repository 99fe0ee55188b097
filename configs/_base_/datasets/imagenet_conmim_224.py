# ImageNet-1k for ConMIM: the crops of CIM; two views of the same crop and flip are made
# on the device, one of them in other colours.
_base_ = 'imagenet_pretrain_224.py'

data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(
        type='StrongAugment',
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_prob=0.8,
        grey_prob=0.2,
        blur_prob=0.1,
        blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    ),
)

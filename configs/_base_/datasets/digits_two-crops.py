# scikit-learn's digits at 24 px for contrastive learning: each is turned, moved and
# stretched twice, differently. They have no colours to change.
_base_ = 'digits_cim.py'

data_preprocessor = dict(
    type='TwoCropsDataPreprocessor',
    crop_augments=[
        dict(
            type='StrongAugment',
            grey_prob=0.0,
            blur_prob=1.0,
            blur_sigma=(0.1, 0.5),
            solarize_prob=0.0,
        ),
        dict(
            type='StrongAugment',
            grey_prob=0.0,
            blur_sigma=(0.1, 0.5),
            solarize_prob=0.0,
        ),
    ],
)

train_pipeline = [
    dict(type='NumpyToPIL'),
    dict(type='MultiView', num_views=2, transforms=[[_base_.random_affine]]),
    dict(type='PackInputs'),
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

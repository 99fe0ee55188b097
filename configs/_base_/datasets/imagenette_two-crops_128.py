# Imagenette at 128 px for contrastive learning, in two crops of each image. The blur is
# about half of that of 224 px.
_base_ = 'imagenette_pretrain_128.py'

data_preprocessor = dict(
    type='TwoCropsDataPreprocessor',
    crop_augments=[
        dict(
            type='StrongAugment', blur_prob=1.0, blur_sigma=(0.1, 1.0), solarize_prob=0.0
        ),
        dict(type='StrongAugment', blur_sigma=(0.1, 1.0)),
    ],
)

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='MultiView', num_views=2, transforms=[[_base_.train_pipeline[1]]]),
    _base_.train_pipeline[2],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

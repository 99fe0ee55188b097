# ImageNet-1k for contrastive learning: two crops of each image leave the loader; they
# are flipped and augmented on the device, differently.
_base_ = 'imagenet_pretrain_224.py'

data_preprocessor = dict(type='TwoCropsDataPreprocessor')

train_pipeline = [
    _base_.train_pipeline[0],
    dict(type='MultiView', num_views=2, transforms=[[_base_.train_pipeline[1]]]),
    _base_.train_pipeline[2],
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

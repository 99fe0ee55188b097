"""MoCo v3, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_mocov3_8xb256-300e.py 8

With the crops and the epochs of CIM; learning rate and its schedule, weight decay and no
clipping are the authors'.
"""

_base_ = ['../_base_/models/mocov3_vit-b.py', '../_base_/pretrain_imagenet_224.py']

data_preprocessor = dict(type='TwoCropsDataPreprocessor')
# Two crops of each image leave the loader.
train_pipeline = [_base_.load, _base_.views, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

sync_bn = 'torch'

optim_wrapper = dict(
    optimizer=dict(lr=1.2e-3, betas=(0.9, 0.999), weight_decay=0.1), clip_grad=None
)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]

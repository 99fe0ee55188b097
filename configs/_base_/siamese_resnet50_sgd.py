# MoCo v2 and SimSiam: larger crops, both augmented alike, and SGD without warm-up.
_base_ = './siamese_resnet50.py'

augment = dict(type='StrongAugment', saturation=0.4, blur_prob=0.5, solarize_prob=0.0)
data_preprocessor = dict(crop_augments=[augment, augment])
crop = {**_base_.crop, 'crop_ratio_range': (0.2, 1.0)}
train_pipeline = [_base_.load, {**_base_.views, 'transforms': [[crop]]}, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

optim_wrapper = dict(
    optimizer=dict(_delete_=True, type='SGD', momentum=0.9, weight_decay=1e-4),
    paramwise_cfg=dict(_delete_=True),
)
param_scheduler = [{**_base_.cosine, 'begin': 0}]

r"""Fine-tuning of a ResNet-50 on Imagenette at 128 px, 300 epochs, procedure A2.

    python tools/train.py \
        configs/benchmarks/resnet50_rsb-a2_1xb128-300e_imagenette-128.py --pretrained FILE

As with A3, the learning rate stays that of ImageNet.
"""

_base_ = './resnet50_rsb-a3_1xb128-100e_imagenette-128.py'

model = dict(backbone=dict(drop_path_rate=0.05))

train_pipeline = [
    _base_.load,
    _base_.crop,
    _base_.flip,
    {**_base_.rand_augment, 'magnitude_level': 7},
    _base_.pack,
]
train_dataloader = dict(
    sampler=dict(type='RepeatAugSampler'),
    dataset=dict(dataset=dict(pipeline=train_pipeline)),
)

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(optimizer=dict(lr=5e-3))
param_scheduler = [_base_.warm_up, {**_base_.cosine, 'end': 300}]

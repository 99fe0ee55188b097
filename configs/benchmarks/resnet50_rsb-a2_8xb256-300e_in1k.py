"""Fine-tuning of a ResNet-50 on ImageNet-1k, 300 epochs, procedure A2.

    C=configs/benchmarks/resnet50_rsb-a2_8xb256-300e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

A3 for longer at 224 px, with each image three times in a batch and a lower learning rate;
from scratch A2 has 79.8 in its paper, "ResNet strikes back".

Paper: 80.6 top-1 in the first version of CIM's, whose epochs are not said.
"""

_base_ = './resnet50_rsb-a3_8xb256-100e_in1k.py'

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

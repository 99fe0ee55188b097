"""SwAV, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_swav_8xb32-300e.py 8

The released recipe for 256 images, of 200 or 400 epochs there, on two crops of 224 px
without its six of 96 px: LARS at 0.6 for all parameters, no warm-up, strong colours, a
queue from epoch 15 on, prototypes frozen in the first epoch.
"""

_base_ = './resnet50_simclr_8xb256-300e.py'

model = dict(
    type='SwAVBaseline',
    neck=dict(with_bias=True, with_last_bn=False, with_last_bias=True),
    head=dict(
        _delete_=True,
        type='SwAVHead',
        loss=dict(type='SwAVLoss', feat_dim=128, epsilon=0.05, temperature=0.1),
    ),
    queue_len=3840,
    queue_start=15 * 5004,
    frozen_steps=5005,
)

train_dataloader = dict(batch_size=32)
optim_wrapper = dict(
    optimizer=dict(lr=0.6, always_adapt=True), paramwise_cfg=dict(_delete_=True)
)
param_scheduler = [{**_base_.cosine, 'eta_min_ratio': 1e-3, 'begin': 0}]
auto_scale_lr = dict(base_batch_size=256)

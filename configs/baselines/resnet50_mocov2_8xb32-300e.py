"""MoCo v2, ResNet-50, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/resnet50_mocov2_8xb32-300e.py 8

The released recipe, of 200 or 800 epochs there: SGD at 0.03 for 256 images, a constant
momentum of 0.999, norms of each GPU.
"""

_base_ = '../_base_/siamese_resnet50_sgd.py'

model = dict(
    type='MoCoV2Baseline',
    backbone=dict(_base_.backbone, zero_init_residual=False),
    neck=dict(type='MoCoV2Neck', in_channels=2048, hid_channels=2048, out_channels=128),
    head=dict(
        type='ContrastiveHead', loss=dict(type='CrossEntropyLoss'), temperature=0.2
    ),
    queue_len=65536,
    feat_dim=128,
    momentum=0.999,
    end_momentum=0.999,
)
sync_bn = None

train_dataloader = dict(batch_size=32)
optim_wrapper = dict(optimizer=dict(lr=0.03))
auto_scale_lr = dict(base_batch_size=256)

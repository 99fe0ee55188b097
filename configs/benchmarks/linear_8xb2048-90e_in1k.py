"""Linear probe of any frozen backbone on ImageNet-1k, 90 epochs of training.

    C=configs/benchmarks/linear_8xb2048-90e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

The papers have no linear probe: this is MAE's, with batch norm without parameters between
the frozen features and the classifier, on the mean of the patch tokens.
"""

_base_ = [
    '../_base_/models/cls_vit-b_frozen.py',
    '../_base_/datasets/imagenet_cls_224.py',
    '../_base_/schedules/lars_linear_90e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    neck=[_base_.model.neck, dict(type='ClsBatchNormNeck', input_features=768)],
    head=dict(init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01)),
)
train_dataloader = dict(batch_size=2048)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

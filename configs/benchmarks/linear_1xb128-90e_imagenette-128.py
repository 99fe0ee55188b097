r"""Linear probe of any frozen backbone on Imagenette at 128 px, 90 epochs of training.

    python tools/train.py \
        configs/benchmarks/linear_1xb128-90e_imagenette-128.py --pretrained FILE

logreg_imagenette-128.py fits the same classifier without training.
"""

_base_ = [
    '../_base_/models/cls_vit-b_frozen.py',
    '../_base_/datasets/imagenette_cls_128.py',
    '../_base_/schedules/lars_linear_90e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-small',
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-s_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    neck=[_base_.model.neck, dict(type='ClsBatchNormNeck', input_features=384)],
    head=dict(
        in_channels=384,
        num_classes=10,
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.01),
    ),
)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

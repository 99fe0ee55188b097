"""Fine-tuning of CIM's ResNet-50 on Imagenette at 128 px, 300 epochs, procedure A2.

    python tools/train.py \
        configs/cim/benchmarks/resnet50_rsb-a2_1xb128-300e_imagenette-128.py

As with A3, the learning rate stays that of ImageNet.
"""

_base_ = [
    '../../_base_/models/cls_resnet50.py',
    '../../_base_/datasets/imagenette_cls_128_rsb-a2.py',
    '../../_base_/schedules/lamb_rsb-a2_300e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        drop_path_rate=0.05,
        init_cfg=dict(
            checkpoint='work_dirs/resnet50_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(num_classes=10),
)
auto_scale_lr = dict(base_batch_size=128)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

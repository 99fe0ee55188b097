"""Fine-tuning of a ResNet on a folder of images with classes.

mmcim train configs/images/resnet_finetune.py --pretrained FILE
"""

_base_ = './vit_finetune.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='ResNet',
        **_base_.resnet,
        init_cfg=dict(type='Pretrained', checkpoint='backbone.safetensors'),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(in_channels=_base_.resnet_width),
)
optim_wrapper = dict(
    constructor='NetworkwiseOptimWrapperConstructor', paramwise_cfg=dict(_delete_=True)
)

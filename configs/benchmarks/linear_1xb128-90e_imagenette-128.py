r"""Linear probe of any frozen backbone on Imagenette at 128 px, 90 epochs of training.

    python tools/train.py \
        configs/benchmarks/linear_1xb128-90e_imagenette-128.py --pretrained FILE

logreg_imagenette-128.py fits the same classifier without training.
"""

_base_ = ['../_base_/linear_90e.py', '../_base_/datasets/imagenette_cls_128.py']

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
    neck=[
        dict(type='GlobalAveragePooling'),
        dict(type='ClsBatchNormNeck', input_features=384),
    ],
    head=dict(in_channels=384, num_classes=10),
)

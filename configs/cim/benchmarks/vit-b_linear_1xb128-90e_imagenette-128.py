"""Linear probe of CIM's ViT-B/8 on Imagenette at 128 px, 90 epochs of training.

    python tools/train.py configs/cim/benchmarks/vit-b_linear_1xb128-90e_imagenette-128.py

vit-b_logreg_imagenette-128.py fits the same classifier without training.
"""

_base_ = './vit-s_linear_1xb128-90e_imagenette-128.py'

model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    neck=[
        _base_.model.neck[0],
        dict(type='ClsBatchNormNeck', input_features=768),
    ],
    head=dict(in_channels=768),
)

"""Nearest neighbours in the features of CIM's frozen ViT-B/8 on Imagenette at 128 px.

    python tools/test.py configs/cim/benchmarks/vit-b_knn_imagenette-128.py

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = './vit-s_knn_imagenette-128.py'

model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=768),
)

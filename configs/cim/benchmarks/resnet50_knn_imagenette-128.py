"""Nearest neighbours in the features of CIM's frozen ResNet-50 on Imagenette at 128 px.

    python tools/test.py configs/cim/benchmarks/resnet50_knn_imagenette-128.py

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = [
    '../../_base_/models/cls_resnet50_frozen.py',
    '../../_base_/datasets/imagenette_cls_128_frozen.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/resnet50_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        )
    ),
    head=dict(num_classes=10),
)
test_cfg = dict(type='KNNLoop')

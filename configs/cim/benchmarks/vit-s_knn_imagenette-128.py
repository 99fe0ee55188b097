"""Nearest neighbours in the features of CIM's frozen ViT-S/8 on Imagenette at 128 px.

    python tools/test.py configs/cim/benchmarks/vit-s_knn_imagenette-128.py

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = [
    '../../_base_/models/cls_vit-s_frozen.py',
    '../../_base_/datasets/imagenette_cls_128_frozen.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(num_classes=10),
)
test_cfg = dict(type='KNNLoop')

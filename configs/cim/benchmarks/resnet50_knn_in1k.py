"""Nearest neighbours in the features of CIM's frozen ResNet-50 on ImageNet-1k.

    python tools/test.py configs/cim/benchmarks/resnet50_knn_in1k.py

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = [
    '../../_base_/models/cls_resnet50_frozen.py',
    '../../_base_/datasets/imagenet_cls_224_frozen.py',
    '../../_base_/default_runtime.py',
]

test_cfg = dict(type='KNNLoop')

"""Nearest neighbours in the features of any frozen backbone on ImageNet-1k.

    python tools/test.py configs/benchmarks/knn_in1k.py --pretrained FILE

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = [
    '../_base_/models/cls_vit-b_frozen.py',
    '../_base_/datasets/imagenet_cls_224.py',
    '../_base_/default_runtime.py',
]

# Nothing is trained or augmented.
test_cfg = dict(
    type='KNNLoop',
    train_dataloader=dict(
        _base_.test_dataloader,
        dataset=dict(
            type='FewLabels',
            dataset=dict(_base_.test_dataloader.dataset, data_prefix='train'),
        ),
    ),
)
test_evaluator = []
train_dataloader = val_dataloader = val_evaluator = None

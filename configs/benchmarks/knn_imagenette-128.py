"""Nearest neighbours in the features of any frozen backbone on Imagenette at 128 px.

    python tools/test.py configs/benchmarks/knn_imagenette-128.py --pretrained FILE

Nothing is trained. A poor judge of masked image modelling: see KNNLoop.
"""

_base_ = [
    '../_base_/models/cls_vit-b_frozen.py',
    '../_base_/datasets/imagenette_cls_128.py',
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
    head=dict(in_channels=384, num_classes=10),
)
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

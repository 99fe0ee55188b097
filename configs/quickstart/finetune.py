"""Quickstart, step 3: fine-tune the backbone with 5 labelled digits per class.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Random weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = [
    '../_base_/models/quickstart_classifier.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/quickstart_finetune.py',
    '../_base_/quickstart_runtime.py',
]

data_preprocessor = dict(
    _delete_=True,
    type='ClsDataPreprocessor',
    num_classes=10,
    mean=_base_.data_preprocessor.mean,
    std=_base_.data_preprocessor.std,
)

train_dataloader = dict(
    batch_size=50,
    dataset=dict(
        _delete_=True,
        type='FewLabels',
        num_per_class=5,
        seed=0,
        dataset=_base_.train_dataloader.dataset,
    ),
)
val_dataloader = _base_.test_dataloader
val_evaluator = test_evaluator = [dict(type='Accuracy', topk=(1,))]
test_cfg = dict(_delete_=True)

"""Quickstart, step 3: fine-tune the backbone with 5 labelled images per class.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Random weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = [
    '../_base_/models/quickstart_classifier.py',
    '../_base_/datasets/digits_cls.py',
    '../_base_/schedules/quickstart_finetune.py',
    '../_base_/quickstart_runtime.py',
]

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

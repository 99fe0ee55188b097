"""Quickstart, step 3: fine-tune the backbone with 5 of your labelled images per class.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Images are in <class>/*; a fifth of them are for validation. Random weights:
--cfg-options model.backbone.init_cfg=None
"""

_base_ = [
    '../_base_/models/quickstart_classifier.py',
    '../_base_/datasets/images.py',
    '../_base_/schedules/quickstart_finetune.py',
    '../_base_/quickstart_runtime.py',
]

model = dict(backbone=dict(img_size=64, patch_size=8))
data_preprocessor = dict(
    _delete_=True,
    type='ClsDataPreprocessor',
    mean=_base_.data_preprocessor.mean,
    std=_base_.data_preprocessor.std,
    to_rgb=True,
)

train_pipeline = [
    dict(type='LoadImage'),
    _base_.crop,
    dict(type='RandomFlip', prob=0.5, direction='horizontal'),
    _base_.pack,
]
images = dict(type='ImageFolder', data_root='data/images')
train_dataloader = dict(
    batch_size=50,
    dataset=dict(
        _delete_=True,
        type='FewLabels',
        num_per_class=5,
        seed=0,
        dataset=dict(images, subset='train', pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    batch_size=128,
    num_workers=2,
    persistent_workers=False,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
    dataset=dict(images, subset='val', pipeline=_base_.test_pipeline),
)
test_dataloader = dict(_delete_=True, **val_dataloader)
val_evaluator = test_evaluator = [dict(type='Accuracy', topk=(1,))]
test_cfg = dict(_delete_=True)

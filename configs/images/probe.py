"""Logistic regression on frozen features of a folder of images with classes.

mmcim test configs/images/probe.py --pretrained FILE
"""

_base_ = ['../_base_/models/cls_vit-b_frozen.py', '../_base_/images.py']

model = dict(
    backbone=dict(
        type='FixedPositionViT',
        arch=dict(_delete_=True, **_base_.arch),
        **_base_.size,
        frozen_stages=_base_.arch.num_layers,
    ),
    head=dict(num_classes=_base_.num_classes, in_channels=_base_.arch.embed_dims),
)
data_preprocessor = dict(_delete_=True, type='ClsDataPreprocessor', **_base_.normalize)

labelled = dict(
    batch_size=128,
    num_workers=_base_.num_workers,
    sampler=dict(type='DefaultSampler', shuffle=False),
    collate_fn=dict(type='default_collate'),
)
test_cfg = dict(
    _delete_=True,
    type='LinearProbeLoop',
    train_dataloader=dict(
        labelled,
        dataset=dict(
            type='FewLabels', dataset=dict(_base_.images, pipeline=_base_.test_pipeline)
        ),
    ),
)
test_dataloader = dict(
    _delete_=True,
    **labelled,
    dataset=dict(_base_.val_images, pipeline=_base_.test_pipeline),
)
# Nothing is trained.
train_cfg = train_dataloader = optim_wrapper = param_scheduler = None
load_from = None  # but the backbone

"""Fine-tuning of a ViT on a folder of images with classes.

    mmcim train configs/images/vit_finetune.py --pretrained FILE \
        --cfg-options train_dataloader.dataset.dataset.data_root=DIR \
        val_dataloader.dataset.data_root=DIR

A tenth of the labels: --cfg-options train_dataloader.dataset.fraction=0.1. Random
weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = '../_base_/images.py'

model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='FixedPositionViT',
        arch=_base_.arch,
        **_base_.size,
        out_type='avg_featmap',
        final_norm=False,  # the averaged features are normalised
        init_cfg=dict(type='Pretrained', checkpoint='backbone.safetensors'),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=_base_.num_classes,
        in_channels=_base_.arch.embed_dims,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
data_preprocessor = dict(_delete_=True, type='ClsDataPreprocessor', **_base_.normalize)

flip = dict(type='RandomFlip', prob=0.5, direction='horizontal')
train_pipeline = [dict(type='LoadImage'), _base_.crop, flip, _base_.pack]
train_dataloader = dict(
    sampler=dict(type='DefaultSampler', shuffle=True),
    dataset=dict(
        _delete_=True,
        type='FewLabels',
        dataset=dict(_base_.images, pipeline=train_pipeline),
    ),
)
val_dataloader = dict(
    _base_.test_dataloader,
    dataset=dict(_base_.val_images, pipeline=_base_.test_pipeline),
)
test_dataloader = dict(_delete_=True, **val_dataloader)
val_evaluator = test_evaluator = [dict(type='Accuracy', topk=(1,))]

train_cfg = dict(
    _delete_=True, type='EpochBasedTrainLoop', max_epochs=40, val_interval=10
)
val_cfg = dict()
test_cfg = dict(_delete_=True)
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.85),
    optimizer=dict(lr=2e-3, betas=(0.9, 0.999)),
)
warm_up = dict(
    type='LinearLR',
    start_factor=0.01,
    by_epoch=True,
    begin=0,
    end=5,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min=0,
    by_epoch=True,
    begin=5,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
default_hooks = dict(
    checkpoint=dict(by_epoch=True, interval=10, max_keep_ckpts=1),
    watch=dict(interval=1000),
)
log_processor = dict(by_epoch=True)
load_from = None  # but the backbone

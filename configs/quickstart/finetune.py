"""Quickstart, step 3: fine-tune the backbone with 5 labelled digits per class.

tools/quickstart.py runs it for each pre-training and for random weights, three seeds
each. Random weights: --cfg-options model.backbone.init_cfg=None
"""

_base_ = '../_base_/quickstart.py'

# The backbone of cim_respix.py as a classifier, from its pre-training.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='FixedPositionViT',
        arch=_base_.arch,
        **_base_.size,
        out_type='avg_featmap',
        final_norm=False,  # the averaged features are normalised
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/quickstart/cim_respix/iter_400_backbone.safetensors',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)
data_preprocessor = dict(_delete_=True, type='ClsDataPreprocessor', **_base_.normalize)

train_dataloader = dict(
    batch_size=50,
    dataset=dict(
        _delete_=True,
        type='FewLabels',
        num_per_class=5,
        seed=0,
        dataset=_base_.labelled.train,
    ),
)
val_dataloader = dict(_base_.test_dataloader, batch_size=128, dataset=_base_.labelled.val)
test_dataloader = dict(_delete_=True, **val_dataloader)
val_evaluator = test_evaluator = [dict(type='Accuracy', topk=(1,))]

# 100 iterations with layer-wise decay, evaluated at the end.
train_cfg = dict(max_iters=100, val_interval=100)
val_cfg = dict()
test_cfg = dict(_delete_=True)
optim_wrapper = dict(
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.9),
    optimizer=dict(lr=3e-3, betas=(0.9, 0.999)),
)
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 0.1, 'end': 10},
    {**_base_.cosine, 'eta_min': 0, 'begin': 10},
]

"""Fine-tuning of CorrIM's ViT-B/16 on ImageNet-1k, 100 epochs.

    C=configs/corrim/benchmarks/vit-b_corrim_finetune_8xb256-100e_in1k.py
    tools/dist_train.sh $C 8

The authors' repository: 83.1 top-1. The recipe is theirs.

    another backbone: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    '../../_base_/models/cls_vit-b.py',
    '../../_base_/datasets/imagenet_cls_224_beit.py',
    '../../_base_/schedules/adamw_finetune_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_8xb256-accum2-300e/epoch_300_backbone.safetensors'
        )
    )
)

# Tested with a crop of 0.95.
test_pipeline = [
    _base_.test_pipeline[0],
    {**_base_.test_pipeline[1], 'scale': 236},
    *_base_.test_pipeline[2:],
]
train_dataloader = dict(batch_size=256)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(optimizer=dict(lr=9.6e-3), paramwise_cfg=dict(layer_decay_rate=0.8))
param_scheduler = [
    {**_base_.param_scheduler[0], 'start_factor': 1e-6 / 9.6e-3, 'end': 5},
    {**_base_.param_scheduler[1], 'eta_min_ratio': 1e-6 / 9.6e-3, 'begin': 5},
]
auto_scale_lr = dict(base_batch_size=2048)

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

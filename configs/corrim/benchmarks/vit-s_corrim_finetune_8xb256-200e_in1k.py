"""Fine-tuning of CorrIM's ViT-S/16 on ImageNet-1k, 200 epochs.

    C=configs/corrim/benchmarks/vit-s_corrim_finetune_8xb256-200e_in1k.py
    tools/dist_train.sh $C 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = 'vit-b_corrim_finetune_8xb256-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_8xb256-accum2-300e/epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384),
)

train_cfg = dict(max_epochs=200)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 200},
]

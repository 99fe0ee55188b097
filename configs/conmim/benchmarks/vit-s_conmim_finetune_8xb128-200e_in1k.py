"""Fine-tuning of ConMIM's ViT-S/16 on ImageNet-1k, 200 epochs.

    C=configs/conmim/benchmarks/vit-s_conmim_finetune_8xb128-200e_in1k.py
    tools/dist_train.sh $C 8

The paper: 82.0 top-1. Its recipe for ViT-S is not known: ViT-B's with 200 epochs is a
choice.
"""

_base_ = 'vit-b_conmim_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_conmim_8xb256-300e/epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384),
)

train_cfg = dict(max_epochs=200)
param_scheduler = [
    _base_.param_scheduler[0],
    {**_base_.param_scheduler[1], 'end': 200},
]

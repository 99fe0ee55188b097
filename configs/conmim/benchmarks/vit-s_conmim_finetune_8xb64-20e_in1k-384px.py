"""ConMIM's ViT-S/16, fine-tuned at 224 px, fine-tuned on at 384 px for 20 epochs.

    C=configs/conmim/benchmarks/vit-s_conmim_finetune_8xb64-20e_in1k-384px.py
    tools/dist_train.sh $C 8

The paper: 83.9 top-1 after 300 epochs of pre-training. What is known and what a choice is
as with ViT-B.
"""

_base_ = 'vit-b_conmim_finetune_8xb64-10e_in1k-384px.py'

model = dict(
    backbone=dict(arch='deit-small'),
    head=dict(in_channels=384),
    init_cfg=dict(
        checkpoint='work_dirs/vit-s_conmim_finetune_8xb128-200e_in1k/epoch_200.pth'
    ),
)

train_cfg = dict(max_epochs=20)
param_scheduler = [
    {**_base_.param_scheduler[0], 'end': 4},
    {**_base_.param_scheduler[1], 'begin': 4, 'end': 20},
]

"""ConMIM's ViT-S/16, fine-tuned at 224 px, fine-tuned further at 384 px for 20 epochs.

    C=configs/benchmarks/vit-s_conmim_finetune_8xb64-20e_in1k-384px.py
    tools/dist_train.sh $C 8 --pretrained CLASSIFIER.pth

What is known and what a choice is as with ViT-B.

Paper: 83.9 top-1 after 300 epochs of pre-training.
"""

_base_ = './vit-b_conmim_finetune_8xb64-10e_in1k-384px.py'

model = dict(
    backbone=dict(arch='deit-small'),
    head=dict(in_channels=384),
    init_cfg=dict(
        checkpoint='work_dirs/benchmarks/vit-s_finetune_8xb128-200e_in1k/epoch_200.pth'
    ),
)

train_cfg = dict(max_epochs=20)
param_scheduler = [
    {**_base_.warm_up, 'end': 4},
    {**_base_.cosine, 'begin': 4},
]

"""ConMIM, ViT-L/16, ImageNet-1k, 1600 epochs, on 4 nodes of 8 GPUs.

    C=configs/conmim/vit-l_conmim_32xb64-1600e.py
    NNODES=4 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh $C 8

The paper: 85.5 top-1 fine-tuned at 224 px, 86.5 at 384 px.
"""

_base_ = [
    '../_base_/models/conmim_vit-l.py',
    '../_base_/datasets/imagenet_conmim_224.py',
    '../_base_/schedules/adamw_cosine_conmim_300e.py',
    '../_base_/default_runtime.py',
]

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=1600)
optim_wrapper = dict(
    optimizer=dict(lr=7.5e-4), clip_grad=dict(_delete_=True, max_norm=1.0)
)
param_scheduler = [
    {**_base_.param_scheduler[0], 'end': 10},
    {**_base_.param_scheduler[1], 'begin': 10, 'end': 1600},
]

sync_bn = 'torch'

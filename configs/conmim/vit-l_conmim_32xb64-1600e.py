"""ConMIM, ViT-L/16, ImageNet-1k, 1600 epochs, on 4 nodes of 8 GPUs.

    C=configs/conmim/vit-l_conmim_32xb64-1600e.py
    NNODES=4 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh $C 8

Paper: 85.5 top-1 fine-tuned at 224 px, 86.5 at 384 px.
"""

_base_ = './vit-b_conmim_8xb256-300e.py'

model = dict(
    backbone=dict(arch='large', layer_scale_init_value=1e-5), neck=dict(in_channels=1024)
)

train_dataloader = dict(batch_size=64)
train_cfg = dict(max_epochs=1600)
optim_wrapper = dict(
    optimizer=dict(lr=7.5e-4), clip_grad=dict(_delete_=True, max_norm=1.0)
)
warm_up = {**_base_.warm_up, 'end': 10}
cosine = {**_base_.cosine, 'begin': 10}
param_scheduler = [warm_up, cosine]

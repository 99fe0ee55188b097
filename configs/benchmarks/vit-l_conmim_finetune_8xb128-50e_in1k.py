"""Fine-tuning of ConMIM's ViT-L/16 on ImageNet-1k, 50 epochs.

    C=configs/benchmarks/vit-l_conmim_finetune_8xb128-50e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

The recipe for ViT-L is not known: that of BEiT's ViT-L (5 epochs of warm-up, layer-wise
decay 0.75, drop path 0.2) is a choice.

Paper: 85.5 top-1 after 1600 epochs of pre-training.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        type='FusedBEiTViT',
        arch='large',
        drop_path_rate=0.2,
        init_cfg=dict(
            checkpoint='work_dirs/conmim/vit-l_conmim_32xb64-1600e/'
            'epoch_1600_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=1024),
)

train_cfg = dict(max_epochs=50)
optim_wrapper = dict(optimizer=dict(lr=1e-3), paramwise_cfg=dict(layer_decay_rate=0.75))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 1e-3, 'end': 5},
    {**_base_.cosine, 'eta_min_ratio': 1e-6 / 1e-3, 'begin': 5},
]

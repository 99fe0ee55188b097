"""Fine-tuning of SimMIM's ViT-B/16 on ImageNet-1k, 100 epochs, by its authors' recipe.

    C=configs/benchmarks/vit-b_simmim_finetune_8xb128-100e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

BEiT's but for the learning rate, 1.25e-3 for a batch of 512.

Paper: 83.8 top-1 after 800 epochs of pre-training.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        type='FusedBEiTViT',
        init_cfg=dict(
            checkpoint='work_dirs/baselines/vit-b_simmim_8xb256-300e/'
            'epoch_300_backbone.safetensors'
        ),
    )
)

optim_wrapper = dict(optimizer=dict(lr=2.5e-3))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 2.5e-3},
    {**_base_.cosine, 'eta_min_ratio': 1e-6 / 2.5e-3},
]

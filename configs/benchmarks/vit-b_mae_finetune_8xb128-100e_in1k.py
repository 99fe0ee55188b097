"""Fine-tuning of MAE's ViT-B/16 on ImageNet-1k, 100 epochs, by its authors' recipe.

    C=configs/benchmarks/vit-b_mae_finetune_8xb128-100e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

BEiT's but for the learning rate, 5e-4 for a batch of 256, and 5 epochs of warm-up.

Paper: 83.6 top-1 after 1600 epochs of pre-training.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/baselines/vit-b_mae_8xb256-300e/'
            'epoch_300_backbone.safetensors'
        )
    )
)

optim_wrapper = dict(optimizer=dict(lr=2e-3))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 2e-3, 'end': 5},
    {**_base_.cosine, 'eta_min_ratio': 1e-6 / 2e-3, 'begin': 5},
]

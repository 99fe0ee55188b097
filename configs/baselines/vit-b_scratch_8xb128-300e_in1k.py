"""ViT-B/16 on ImageNet-1k from scratch, supervised, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_scratch_8xb128-300e_in1k.py 8

The recipe of the fine-tunings, with DeiT's learning rate, which all layers share.
"""

_base_ = '../benchmarks/vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ]
    )
)

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-3))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 1e-3},
    {**_base_.cosine, 'eta_min_ratio': 1e-6 / 1e-3, 'end': 300},
]

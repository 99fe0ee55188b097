"""ViT-B/16 on ImageNet-1k from scratch, supervised, 300 epochs, MAE's recipe.

    tools/dist_train.sh configs/baselines/vit-b_scratch_8xb512-300e_in1k.py 8

AdamW with a weight decay of 0.3 and one learning rate for all layers, 1.6e-3 for 4096
images; tested is the moving average of the weights.

Paper: 82.3 top-1, by the authors of MAE.
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

train_dataloader = dict(batch_size=512)
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(
    paramwise_cfg=dict(layer_decay_rate=1.0),
    optimizer=dict(lr=1.6e-3, betas=(0.9, 0.95), weight_decay=0.3),
)
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 1.6e-3},
    {**_base_.cosine, 'eta_min_ratio': 1e-6 / 1.6e-3},
]
auto_scale_lr = dict(base_batch_size=4096)
custom_hooks = [dict(type='EMAHook', momentum=1e-4)]

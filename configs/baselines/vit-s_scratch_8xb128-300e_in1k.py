"""ViT-S/16 on ImageNet-1k from scratch, supervised, 300 epochs, DeiT's recipe.

    tools/dist_train.sh configs/baselines/vit-s_scratch_8xb128-300e_in1k.py 8

The classifier reads the class token, each image is three times in a batch, and the
learning rate is that of all layers.

Paper: 79.9 top-1, by the authors of CIM.
"""

_base_ = '../benchmarks/vit-s_finetune_8xb128-200e_in1k.py'

model = dict(
    backbone=dict(
        out_type='cls_token',
        final_norm=True,
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    head=dict(init_cfg=dict(std=0.02)),
)

train_dataloader = dict(sampler=dict(type='RepeatAugSampler'))
train_cfg = dict(max_epochs=300)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-3))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 1e-3, 'end': 5},
    {**_base_.cosine, 'eta_min_ratio': 1e-5 / 1e-3, 'begin': 5},
]

"""Fine-tuning of MoCo v3's ViT-B/16 on ImageNet-1k, 150 epochs, by its authors' recipe.

    C=configs/benchmarks/vit-b_mocov3_finetune_8xb128-150e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

DeiT's: the classifier reads the class token, whose norm is kept, each image is in a batch
three times, and all layers share the learning rate.

Paper: 83.2 top-1 after 600 epochs of pre-training.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        out_type='cls_token',
        final_norm=True,
        init_cfg=dict(
            checkpoint='work_dirs/baselines/vit-b_mocov3_8xb256-300e/'
            'epoch_300_backbone.safetensors'
        ),
    )
)

train_dataloader = dict(sampler=dict(type='RepeatAugSampler'))
train_cfg = dict(max_epochs=150)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0), optimizer=dict(lr=1e-3))
param_scheduler = [
    {**_base_.warm_up, 'start_factor': 1e-6 / 1e-3, 'end': 5},
    {**_base_.cosine, 'eta_min_ratio': 1e-5 / 1e-3, 'begin': 5},
]

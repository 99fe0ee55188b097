"""Fine-tuning of CorrIM's ViT-B/16 on ImageNet-1k, 100 epochs, by its authors' recipe.

    C=configs/benchmarks/vit-b_corrim_finetune_8xb256-100e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

Paper: 83.1 top-1, by the authors' repository.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/corrim/vit-b_corrim_8xb256-accum2-300e/'
            'epoch_300_backbone.safetensors'
        )
    )
)

# Tested with a crop of 0.95: int(224 / 0.95).
test_pipeline = [
    dict(type='LoadImage'),
    {**_base_.resize, 'scale': 235},
    _base_.center_crop,
    _base_.pack,
]
train_dataloader = dict(batch_size=256)
val_dataloader = dict(dataset=dict(pipeline=test_pipeline))
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

optim_wrapper = dict(
    optimizer=dict(lr=9.6e-3),
    paramwise_cfg=dict(
        layer_decay_rate=0.8,
        custom_keys=dict(pos_embed=dict(lr_mult=0.0)),  # positions stay fixed
    ),
)
warm_up = {**_base_.warm_up, 'start_factor': 1e-6 / 9.6e-3, 'end': 5}
cosine = {**_base_.cosine, 'eta_min_ratio': 1e-6 / 9.6e-3, 'begin': 5}
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(base_batch_size=2048)

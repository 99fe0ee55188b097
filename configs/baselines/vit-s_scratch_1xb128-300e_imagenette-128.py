"""ViT-S/8 on Imagenette at 128 px from scratch, supervised, 300 epochs.

    python tools/train.py configs/baselines/vit-s_scratch_1xb128-300e_imagenette-128.py

The recipe of the fine-tunings and their learning rate, which all layers share.
"""

_base_ = '../benchmarks/vit-s_finetune_1xb128-100e_imagenette-128.py'

model = dict(
    backbone=dict(
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ]
    )
)

train_cfg = dict(max_epochs=300)
optim_wrapper = dict(paramwise_cfg=dict(layer_decay_rate=1.0))

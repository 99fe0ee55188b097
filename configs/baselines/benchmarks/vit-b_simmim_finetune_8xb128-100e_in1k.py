"""Fine-tuning of SimMIM's ViT-B/16 on ImageNet-1k, 100 epochs, as for all.

    C=configs/baselines/benchmarks/vit-b_simmim_finetune_8xb128-100e_in1k.py
    tools/dist_train.sh $C 8
"""

_base_ = '../../conmim/benchmarks/vit-b_conmim_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_simmim_8xb256-300e/epoch_300_backbone.safetensors'
        )
    )
)

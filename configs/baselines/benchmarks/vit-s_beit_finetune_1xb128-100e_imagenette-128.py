"""Fine-tuning of BEiT's ViT-S/8 on Imagenette at 128 px, 100 epochs, one small GPU.

    C=configs/baselines/benchmarks/vit-s_beit_finetune_1xb128-100e_imagenette-128.py
    python tools/train.py $C
"""

_base_ = '../../conmim/benchmarks/vit-s_conmim_finetune_1xb128-100e_imagenette-128.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_beit_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        )
    )
)

"""Linear classifier on CorrIM's ViT-S/8, Imagenette at 128 px, 90 epochs.

    C=configs/corrim/benchmarks/vit-s_corrim_linear_1xb128-90e_imagenette-128.py
    python tools/train.py $C

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../cim/benchmarks/vit-s_linear_1xb128-90e_imagenette-128.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_corrim_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        )
    )
)

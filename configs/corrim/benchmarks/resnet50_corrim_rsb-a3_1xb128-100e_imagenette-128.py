"""Fine-tuning of CorrIM's ResNet-50 on Imagenette at 128 px, procedure A3.

    C=configs/corrim/benchmarks/resnet50_corrim_rsb-a3_1xb128-100e_imagenette-128.py
    python tools/train.py $C

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../cim/benchmarks/resnet50_rsb-a3_1xb128-100e_imagenette-128.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/resnet50_corrim_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        )
    )
)

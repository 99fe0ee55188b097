"""Fine-tuning of CorrIM's ResNet-50 on ImageNet-1k, 100 epochs, procedure A3.

    C=configs/corrim/benchmarks/resnet50_corrim_rsb-a3_8xb256-100e_in1k.py
    tools/dist_train.sh $C 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../cim/benchmarks/resnet50_rsb-a3_8xb256-100e_in1k.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/resnet50_8xb256-accum2-300e/'
            'epoch_300_backbone.safetensors'
        )
    )
)

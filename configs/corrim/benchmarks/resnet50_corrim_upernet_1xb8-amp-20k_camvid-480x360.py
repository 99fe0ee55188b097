"""UperNet, ResNet-50 of CorrIM, CamVid at 480 x 360 px, 20,000 iterations.

    C=configs/corrim/benchmarks/resnet50_corrim_upernet_1xb8-amp-20k_camvid-480x360.py
    python tools/train.py $C

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../segmentation/resnet50_upernet_1xb8-amp-20k_camvid-480x360.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/resnet50_8xb256-accum2-300e/'
            'epoch_300_backbone.safetensors'
        )
    )
)

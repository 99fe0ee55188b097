"""UperNet, ViT-S/16 of CorrIM, CamVid at 480 x 360 px, 20,000 iterations.

    C=configs/corrim/benchmarks/vit-s_corrim_upernet_1xb8-amp-20k_camvid-480x360.py
    python tools/train.py $C

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../segmentation/vit-s_upernet_1xb8-amp-20k_camvid-480x360.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_8xb256-accum2-300e/epoch_300_backbone.safetensors'
        )
    )
)

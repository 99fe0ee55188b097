"""UperNet, ViT-B/16 of CorrIM, ADE20K at 512 px, 160,000 iterations.

    C=configs/corrim/benchmarks/vit-b_corrim_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_8xb256-accum2-300e/epoch_300_backbone.safetensors'
        )
    )
)

"""UperNet, ViT-B/16 of MAE, ADE20K at 512 px, 160,000 iterations.

    C=configs/baselines/benchmarks/vit-b_mae_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8
"""

_base_ = '../../segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_mae_8xb256-300e/epoch_300_backbone.safetensors'
        )
    )
)

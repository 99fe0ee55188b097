"""UperNet, ViT-B/16 of ConMIM, ADE20K at 512 px, 160,000 iterations.

    C=configs/conmim/benchmarks/vit-b_conmim_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = '../../segmentation/vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        type='mmpretrain.FusedBEiTViT',
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_conmim_8xb256-800e/epoch_800_backbone.safetensors'
        ),
    )
)

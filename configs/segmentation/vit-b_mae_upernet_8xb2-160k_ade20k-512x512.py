"""UperNet, ViT-B/16 of MAE, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/vit-b_mae_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

Learning rate and layer-wise decay are mmsegmentation's for MAE, which adds relative
position bias.
"""

_base_ = './vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/baselines/vit-b_mae_8xb256-300e/'
            'epoch_300_backbone.safetensors'
        )
    )
)

optim_wrapper = dict(optimizer=dict(lr=1e-4))

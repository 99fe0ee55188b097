r"""UperNet, ViT-L/16 of ConMIM, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/vit-l_conmim_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

The authors follow BEiT: learning rate and layer-wise decay are those for an encoder with
no supervised training, the drop path is that of its ViT-L. For one that was fine-tuned on
labels in between BEiT has

    --cfg-options optim_wrapper.optimizer.lr=2e-5 \
        optim_wrapper.paramwise_cfg.layer_decay_rate=0.95
"""

_base_ = './vit-b_upernet_8xb2-160k_ade20k-512x512.py'

model = dict(
    backbone=dict(
        type='mmpretrain.FusedBEiTViT',
        arch='large',
        drop_path_rate=0.2,
        out_indices=[7, 11, 15, 23],
        init_cfg=dict(
            checkpoint='work_dirs/conmim/vit-l_conmim_32xb64-1600e/'
            'epoch_1600_backbone.safetensors'
        ),
    ),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024),
)

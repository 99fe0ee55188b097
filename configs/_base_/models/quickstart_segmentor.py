# UperNet on the backbone of quickstart_cim.py, from its ResPix pre-training. The scenes
# are twice as large as the digits, so that position embeddings are resized.
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='mmpretrain.FixedPositionViT',
        arch=dict(
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        ),
        img_size=48,
        patch_size=4,
        final_norm=False,
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/quickstart/cim_respix/iter_400_backbone.safetensors',
        ),
    ),
    neck=dict(
        type='Feature2Pyramid',
        embed_dim=96,
        rescales=[2, 1, 0.5, 0.25],
        norm_cfg=norm_cfg,
    ),
    decode_head=dict(
        type='UPerHead',
        in_channels=[96, 96, 96, 96],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=32,
        dropout_ratio=0.1,
        num_classes=11,
        norm_cfg=norm_cfg,
        align_corners=False,
        # Two thirds of the pixels are background, which would be all that is learnt.
        loss_decode=dict(
            type='CrossEntropyLoss', class_weight=[0.1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
        ),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='whole'),
)

# UperNet on ViT-B/16 as in BEiT: the maps of four layers, rescaled to strides 4 to 32.
norm_cfg = dict(type='BN')
model = dict(
    type='EncoderDecoder',
    backbone=dict(
        type='mmpretrain.VisionTransformer',
        arch='deit-base',
        img_size=512,
        patch_size=16,
        drop_path_rate=0.1,
        final_norm=False,  # none of the four maps is normalised
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, norm_cfg=norm_cfg),
    decode_head=dict(
        type='UPerHead',
        in_channels=[768, 768, 768, 768],
        in_index=[0, 1, 2, 3],
        pool_scales=(1, 2, 3, 6),
        channels=768,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=1.0),
    ),
    auxiliary_head=dict(
        type='FCNHead',
        in_channels=768,
        in_index=2,
        channels=256,
        num_convs=1,
        concat_input=False,
        dropout_ratio=0.1,
        num_classes=150,
        norm_cfg=norm_cfg,
        align_corners=False,
        loss_decode=dict(type='CrossEntropyLoss', loss_weight=0.4),
    ),
    train_cfg=dict(),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)

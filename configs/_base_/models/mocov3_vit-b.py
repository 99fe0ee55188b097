# MoCo v3 on a ViT-B/16 with fixed positions and a frozen patch projection.
model = dict(
    type='MoCoV3Baseline',
    backbone=dict(
        type='FixedPositionViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        stop_grad_conv1=True,
    ),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_bias=False,
        with_last_bn_affine=False,
        with_last_bias=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    ),
    head=dict(
        type='MoCoV3Head',
        predictor=dict(
            type='NonLinearNeck',
            in_channels=256,
            hid_channels=4096,
            out_channels=256,
            num_layers=2,
            with_bias=False,
            with_last_bn_affine=False,
            with_last_bias=False,
            with_avg_pool=False,
            norm_cfg=dict(type='BN1d'),
        ),
        # 2 * temperature, as in the authors' code.
        loss=dict(type='CrossEntropyLoss', loss_weight=0.4),
        temperature=0.2,
    ),
    momentum=0.99,
)

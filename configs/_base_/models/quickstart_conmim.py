# ConMIM at the scale of a CPU: 24 px, 6 x 6 patches, a BEiT of width 96.
model = dict(
    type='ConMIM',
    backbone=dict(
        type='FusedBEiTPretrainViT',
        arch=dict(
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        ),
        img_size=24,
        patch_size=4,
        layer_scale_init_value=1.0,
    ),
    neck=dict(
        type='NonLinearNeck',
        in_channels=96,
        hid_channels=256,
        out_channels=64,
        num_layers=3,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
        # Truncated at one sigma, as the backbone's weights are.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02),
    ),
    # Of 3 x 3 squares, 5 are masked.
    masking=dict(type='RatioMasking', ratio=0.5, mask_patch_size=2),
    momentum=0.99,
)

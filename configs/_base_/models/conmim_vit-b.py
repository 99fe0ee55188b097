# ConMIM on a BEiT-style ViT-B/16: shared relative positions, no absolute ones. The
# momentum encoder is a copy of backbone and neck.
model = dict(
    type='ConMIM',
    backbone=dict(
        type='FusedBEiTPretrainViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        layer_scale_init_value=0.1,
    ),
    neck=dict(
        type='NonLinearNeck',
        in_channels=768,
        hid_channels=4096,
        out_channels=256,
        num_layers=3,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
        # Truncated at one sigma, as the backbone's weights are.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=0.02, a=-0.02, b=0.02),
    ),
    head=dict(type='DenoisingContrastHead', temperature=0.1),
    # 37 of 7 x 7 squares of 32 px, that is 148 of 196 patches.
    masking=dict(type='RatioMasking', ratio=0.75, mask_patch_size=2),
    momentum=0.996,
    end_momentum=1.0,
)

# SimMIM on a ViT-B/16 with shared relative positions; 0.6 of 7 x 7 squares of 32 px.
model = dict(
    type='SimMIMBaseline',
    backbone=dict(
        type='FusedBEiTPretrainViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        layer_scale_init_value=0.1,
    ),
    neck=dict(type='SimMIMLinearDecoder', in_channels=768, encoder_stride=16),
    head=dict(
        type='SimMIMHead',
        patch_size=16,
        loss=dict(type='PixelReconstructionLoss', criterion='L1', channel=3),
    ),
    masking=dict(type='RatioMasking', ratio=0.6, mask_patch_size=2),
)

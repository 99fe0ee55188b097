# CIM-ResPix at the scale of a CPU: 24 px, 6 x 6 patches, a ViT of width 96.
model = dict(
    type='CIM',
    tokenizer=dict(
        type='DiscreteVAE',
        checkpoint='work_dirs/quickstart/tokenizer/iter_400.pth',
    ),
    generator=dict(
        type='CIMGenerator',
        backbone=dict(
            type='FusedBEiTPretrainViT',
            arch=dict(
                embed_dims=96,
                num_layers=2,
                num_heads=3,
                feedforward_channels=384,
            ),
            img_size=24,
            patch_size=4,
        ),
        head=dict(type='MaskedTokenHead', embed_dims=96, vocab_size=32),
    ),
    enhancer=dict(
        type='ResPix',
        backbone=dict(
            # Positions of sines and cosines, and Xavier's initialisation: a few hundred
            # steps are too short to learn where a patch is.
            type='FixedPositionViT',
            arch=dict(
                embed_dims=96,
                num_layers=4,
                num_heads=3,
                feedforward_channels=384,
            ),
            img_size=24,
            patch_size=4,
            out_type='featmap',
        ),
        neck=dict(type='SimMIMLinearDecoder', in_channels=96, encoder_stride=4),
        head=dict(type='ResPixHead'),
    ),
)

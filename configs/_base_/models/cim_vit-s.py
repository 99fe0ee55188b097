# CIM-ResPix on a vanilla ViT-S/16; the generator has its width and 4 layers.
model = dict(
    type='CIM',
    tokenizer=dict(
        type='DALLETokenizer', checkpoint='weights/dalle_dvae.safetensors'
    ),
    masking=dict(type='UniformMasking', num_masked=(100, 120)),
    generator=dict(
        type='CIMGenerator',
        backbone=dict(
            type='FusedBEiTPretrainViT',
            arch=dict(
                embed_dims=384,
                num_layers=4,
                num_heads=6,
                feedforward_channels=1536,
            ),
            img_size=224,
            patch_size=16,
        ),
        head=dict(type='MaskedTokenHead', embed_dims=384, vocab_size=8192),
    ),
    enhancer=dict(
        type='ResPix',
        backbone=dict(
            type='VisionTransformer',
            arch='deit-small',
            img_size=224,
            patch_size=16,
            out_type='featmap',
        ),
        neck=dict(type='SimMIMLinearDecoder', in_channels=384, encoder_stride=16),
        head=dict(type='ResPixHead'),
    ),
)

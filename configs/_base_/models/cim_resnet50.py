# CIM-ResPix on ResNet-50, with the generator of ViT-S/16.
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
        backbone=dict(type='ResNet', depth=50),
        neck=dict(type='SimMIMLinearDecoder', in_channels=2048, encoder_stride=32),
        head=dict(type='ResPixHead'),
    ),
)

# CIM-ResPix on a vanilla ViT-B/16; the generator has its width and 4 layers.
model = dict(
    type='CIM',
    tokenizer=dict(type='DALLETokenizer', checkpoint='weights/dalle_dvae.safetensors'),
    masking=dict(type='UniformMasking', num_masked=(100, 120)),
    generator=dict(
        type='CIMGenerator',
        backbone=dict(
            type='FusedBEiTPretrainViT',
            arch=dict(
                embed_dims=768,
                num_layers=4,
                num_heads=12,
                feedforward_channels=3072,
            ),
            img_size=224,
            patch_size=16,
        ),
        head=dict(type='MaskedTokenHead', embed_dims=768, vocab_size=8192),
    ),
    enhancer=dict(
        type='ResPix',
        backbone=dict(
            type='VisionTransformer',
            arch='deit-base',
            img_size=224,
            patch_size=16,
            out_type='featmap',
        ),
        neck=dict(type='SimMIMLinearDecoder', in_channels=768, encoder_stride=16),
        head=dict(type='ResPixHead'),
    ),
)

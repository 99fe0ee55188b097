# BEiT on a ViT-B/16 with shared relative positions; blocks of 75 of 196 patches.
model = dict(
    type='BEiTBaseline',
    tokenizer=dict(type='DALLETokenizer', checkpoint='weights/dalle_dvae.safetensors'),
    backbone=dict(
        type='FusedBEiTPretrainViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        layer_scale_init_value=0.1,
        drop_path_rate=0.1,
    ),
    head=dict(type='MaskedTokenHead', embed_dims=768, vocab_size=8192),
    masking=dict(type='BlockMasking', num_masked=75),
)

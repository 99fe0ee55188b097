"""CIM-ResPix, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/cim/vit-s_1xb128-300e_imagenette-128.py

The tokenizer comes from configs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128.py.
"""

_base_ = ['../_base_/models/cim_vit-b.py', '../_base_/pretrain_imagenette_128.py']

# The tokenizer sees half the size, as 112 is of 224.
data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=64)

# 16 x 16 tokens of 4 px in a view of 64 px, and as many patches of 8 px.
size = dict(img_size=128, patch_size=8)
model = dict(
    tokenizer=dict(
        _delete_=True,
        type='DiscreteVAE',
        checkpoint='work_dirs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128/'
        'epoch_50.pth',
    ),
    generator=dict(
        backbone=dict(
            arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536), **size
        ),
        head=dict(embed_dims=384, vocab_size=512),
    ),
    enhancer=dict(
        backbone=dict(arch='deit-small', **size),
        neck=dict(in_channels=384, encoder_stride=8),
    ),
)

optim_wrapper = dict(optimizer=dict(lr=5e-4))

"""BEiT, ViT-S/8, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/baselines/vit-s_beit_1xb128-300e_imagenette-128.py

Learning rate, batch and sizes are a choice.
The tokenizer comes from configs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128.py.
"""

_base_ = ['../_base_/models/beit_vit-b.py', '../_base_/pretrain_imagenette_128.py']

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=64)

# 16 x 16 tokens of 4 px in a view of 64 px, and as many patches of 8 px.
model = dict(
    tokenizer=dict(
        _delete_=True,
        type='DiscreteVAE',
        checkpoint='work_dirs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128/'
        'epoch_50.pth',
    ),
    backbone=dict(arch='deit-small', img_size=128, patch_size=8),
    head=dict(embed_dims=384, vocab_size=512),
)

optim_wrapper = dict(optimizer=dict(lr=5e-4, betas=(0.9, 0.999)))

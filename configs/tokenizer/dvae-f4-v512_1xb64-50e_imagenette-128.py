"""Discrete VAE, 4 px, 512 codes, Imagenette at 128 px, 50 epochs, for one GPU.

    python tools/train.py configs/tokenizer/dvae-f4-v512_1xb64-50e_imagenette-128.py

Then, in a CIM config:

    tokenizer=dict(
        type='DiscreteVAE', checkpoint='work_dirs/.../epoch_50.pth')
"""

_base_ = [
    '../_base_/models/discrete_vae_f4_v512.py',
    '../_base_/datasets/imagenette_pretrain_128.py',
    '../_base_/schedules/adamw_cosine_dvae_50e.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=64)
train_dataloader = dict(batch_size=64)

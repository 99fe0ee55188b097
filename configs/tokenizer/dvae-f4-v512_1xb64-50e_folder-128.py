r"""Discrete VAE, 4 px, 512 codes, your image folder at 128 px, 50 epochs.

    python tools/train.py configs/tokenizer/dvae-f4-v512_1xb64-50e_folder-128.py \
        --cfg-options train_dataloader.dataset.data_root=/my/images
"""

_base_ = [
    '../_base_/models/discrete_vae_f4_v512.py',
    '../_base_/datasets/images.py',
    '../_base_/schedules/adamw_cosine_dvae_50e.py',
    '../_base_/default_runtime.py',
]

data_preprocessor = dict(tokenizer_size=64)
train_pipeline = [
    _base_.load,
    {**_base_.crop, 'scale': 128, 'crop_ratio_range': (0.2, 1.0)},
    _base_.pack,
]
test_pipeline = [
    _base_.load,
    {**_base_.resize, 'scale': 128},
    dict(type='CenterCrop', crop_size=128),
    _base_.pack,
]
train_dataloader = dict(
    sampler=dict(_delete_=True, type='DefaultSampler', shuffle=True),
    dataset=dict(pipeline=train_pipeline),
)
test_dataloader = dict(dataset=dict(pipeline=test_pipeline))

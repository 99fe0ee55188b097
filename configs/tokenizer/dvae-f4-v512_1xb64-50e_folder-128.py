r"""Discrete VAE, 4 px, 512 codes, your own folder of images at 128 px, 50 epochs.

    python tools/train.py configs/tokenizer/dvae-f4-v512_1xb64-50e_folder-128.py \
        --cfg-options train_dataloader.dataset.data_root=/my/images
"""

_base_ = [
    '../_base_/models/discrete_vae_f4_v512.py',
    '../_base_/datasets/folder_cim.py',
    '../_base_/schedules/adamw_cosine_dvae_50e.py',
    '../_base_/default_runtime.py',
]

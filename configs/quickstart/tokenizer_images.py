r"""Quickstart, step 1: a small discrete VAE learns 32 tokens of your own images.

    python tools/train.py configs/quickstart/tokenizer_images.py \
        --work-dir work_dirs/quickstart/tokenizer \
        --cfg-options train_dataloader.dataset.data_root=DIR
"""

_base_ = [
    '../_base_/models/quickstart_dvae.py',
    '../_base_/datasets/images.py',
    '../_base_/schedules/quickstart_tokenizer.py',
    '../_base_/quickstart_runtime.py',
]

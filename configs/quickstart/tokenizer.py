r"""Quickstart, step 1: a small discrete VAE learns 32 tokens of handwritten digits.

    python tools/train.py configs/quickstart/tokenizer.py \
        --work-dir work_dirs/quickstart/tokenizer
"""

_base_ = [
    '../_base_/models/quickstart_dvae.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/quickstart_tokenizer.py',
    '../_base_/quickstart_runtime.py',
]

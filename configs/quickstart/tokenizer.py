r"""Quickstart, step 1: a small discrete VAE learns 32 tokens of handwritten digits.

    python tools/train.py configs/quickstart/tokenizer.py \
        --work-dir work_dirs/quickstart/tokenizer
"""

_base_ = '../_base_/quickstart.py'

# One token stands for 4 x 4 px.
model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=4,
        vocab_size=32,
        width=64,
        depth=1,
        code_dims=64,
    ),
    # A cold end with no pull to uniform lets similar patches share a code. With fewer
    # codes, each of which means something, the replaced ones are worth finding.
    temperature=(1.0, 1 / 16),
    kl_weight=(0.01, 0.0),
)

optim_wrapper = dict(
    optimizer=dict(lr=3e-3, weight_decay=1e-4), clip_grad=dict(max_norm=1.0)
)
param_scheduler = [{**_base_.warm_up, 'end': 20}, {**_base_.cosine, 'begin': 20}]

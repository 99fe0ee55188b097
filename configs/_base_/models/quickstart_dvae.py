# A discrete VAE of 32 codes for small images; one token stands for 4 x 4 px.
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

# A discrete VAE of 128 codes for small pictures; one token stands for 4 x 4 px.
model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=4,
        vocab_size=128,
        width=64,
        depth=1,
        code_dims=64,
    ),
)

# A discrete VAE of 32 codes for small pictures; one token stands for 4 x 4 px.
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
    # Without a pull at the end, alike squares share a code: fewer codes, each of which
    # means something, make the replaced ones worth finding.
    kl_weight=(3e-3, 0.0),
)

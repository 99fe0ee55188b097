# A discrete VAE of 4 px and 512 codes, for small images.
model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet', stride=4, vocab_size=512, width=128, depth=2, code_dims=128
    ),
    # Photographs need a smaller weight than drawings: their pixels are harder.
    kl_weight=(1e-3, 1e-4),
)

# A discrete VAE with the grid and the vocabulary of OpenAI's: 8 px, 8192 codes.
model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=8,
        vocab_size=8192,
        width=256,
        depth=4,
        code_dims=256),
    # Photographs need a smaller weight than drawings: their pixels are harder.
    kl_weight=(1e-3, 1e-4))

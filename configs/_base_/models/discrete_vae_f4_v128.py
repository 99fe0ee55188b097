# A discrete VAE of 4 px and 128 codes, small enough for a CPU.
model = dict(
    type='DiscreteVAETrainer',
    backbone=dict(
        type='DiscreteVAENet',
        stride=4,
        vocab_size=128,
        width=64,
        depth=2,
        code_dims=64))

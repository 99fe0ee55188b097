"""A generator of half the width, with 6 heads."""

_base_ = '../vit-b_8xb256-300e.py'

model = dict(
    generator=dict(
        backbone=dict(arch=dict(embed_dims=384, num_heads=6, feedforward_channels=1536)),
        head=dict(embed_dims=384),
    )
)

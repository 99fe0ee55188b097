# CorrIM at the scale of a CPU: contexts of 6 x 6 patches, exemplars of 3 x 3.
model = dict(
    type='CorrIM',
    backbone=dict(
        type='FixedPositionViT',
        arch=dict(
            embed_dims=96,
            num_layers=4,
            num_heads=3,
            feedforward_channels=384,
        ),
        img_size=24,
        patch_size=4,
        out_type='raw',
        stop_grad_conv1=True,
    ),
    neck=dict(
        type='CorrelationDecoder',
        in_channels=96,
        grid=(6, 6),
        embed_dims=96,
        num_heads=3,
    ),
    head=dict(type='CorrelationHead', in_channels=96),
    momentum=0.99,
)

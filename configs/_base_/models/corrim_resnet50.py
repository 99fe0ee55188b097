# CorrIM on ResNet-50: contexts of 5 x 5 cells, exemplars of 2 x 2, with no class token.
model = dict(
    type='CorrIM',
    backbone=dict(type='ResNet', depth=50),
    neck=dict(
        type='CorrelationDecoder',
        in_channels=2048,
        grid=(5, 5),
        embed_dims=512,
        num_heads=16,
    ),
    head=dict(type='CorrelationHead', in_channels=512, objective='cross_entropy'),
    momentum=0.99,
)

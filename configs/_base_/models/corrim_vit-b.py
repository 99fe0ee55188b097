# CorrIM on a vanilla ViT-B/16 with fixed positions and a frozen patch projection:
# contexts of 10 x 10 patches, exemplars of 4 x 4.
model = dict(
    type='CorrIM',
    backbone=dict(
        type='FixedPositionViT',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        out_type='raw',
        stop_grad_conv1=True,
    ),
    neck=dict(
        type='CorrelationDecoder',
        in_channels=768,
        grid=(10, 10),
        embed_dims=512,
        num_heads=16,
    ),
    head=dict(type='CorrelationHead', in_channels=512, objective='cross_entropy'),
    momentum=0.99,
)

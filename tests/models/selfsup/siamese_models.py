# Copyright (c) mmcim contributors. All rights reserved.
"""Configs of small Siamese models: a narrow ResNet-18, embeddings of 8 numbers."""

BACKBONE = dict(
    type='ResNet', depth=18, base_channels=8, stem_channels=8, zero_init_residual=False
)


def mlp(in_channels, **kwargs):
    return dict(
        type='NonLinearNeck',
        in_channels=in_channels,
        hid_channels=16,
        out_channels=8,
        norm_cfg=dict(type='BN1d'),
        **kwargs,
    )


def siamese(kind, neck=None, **kwargs):
    return dict(
        type=f'{kind}Baseline',
        backbone=BACKBONE,
        neck=neck or mlp(64),
        **kwargs,
    )


CROSS_ENTROPY = dict(type='CrossEntropyLoss')
PREDICT = dict(type='LatentPredictHead', predictor=mlp(8, with_avg_pool=False))
CONFIGS = dict(
    mocov3=siamese(
        'MoCoV3',
        head=dict(
            type='MoCoV3Head',
            predictor=mlp(8, with_avg_pool=False),
            loss=dict(type='CrossEntropyLoss', loss_weight=2.0),
            temperature=1.0,
        ),
    ),
    simclr=siamese(
        'SimCLR', head=dict(type='ContrastiveHead', loss=CROSS_ENTROPY, temperature=0.1)
    ),
    simsiam=siamese(
        'SimSiam', head=dict(PREDICT, loss=dict(type='CosineSimilarityLoss'))
    ),
    barlowtwins=siamese(
        'BarlowTwins',
        head=dict(
            type='LatentCrossCorrelationHead',
            in_channels=8,
            loss=dict(type='CrossCorrelationLoss', lambd=0.1),
        ),
    ),
    byol=siamese(
        'BYOL',
        head=dict(
            PREDICT,
            loss=dict(type='CosineSimilarityLoss', shift_factor=2.0, scale_factor=2.0),
        ),
    ),
    mocov2=siamese(
        'MoCoV2',
        neck=dict(type='MoCoV2Neck', in_channels=64, hid_channels=16, out_channels=8),
        head=dict(type='ContrastiveHead', loss=CROSS_ENTROPY, temperature=0.2),
        queue_len=10,
        feat_dim=8,
    ),
    swav=siamese(
        'SwAV',
        neck=dict(
            type='SwAVNeck',
            in_channels=64,
            hid_channels=16,
            out_channels=8,
            norm_cfg=dict(type='BN1d'),
            with_l2norm=False,
        ),
        head=dict(
            type='SwAVHead',
            loss=dict(
                type='SwAVLoss',
                feat_dim=8,
                num_prototypes=5,
                epsilon=0.05,
                temperature=0.1,
            ),
        ),
        queue_len=8,
        queue_start=1,
        frozen_steps=1,
    ),
)

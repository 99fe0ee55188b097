# The backbone of quickstart_cim.py as a classifier, from its ResPix pre-training.
model = dict(
    type='ImageClassifier',
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
        out_type='avg_featmap',
        final_norm=False,  # the averaged features are normalised
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/quickstart/cim_respix/iter_400_backbone.safetensors',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=10,
        in_channels=96,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
    ),
)

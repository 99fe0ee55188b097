# Classifier on the ViT-B/16 of cim_vit-b.py for fine-tuning, as BEiT does it.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        # The mean of the patch tokens goes through a new norm (BEiT's fc_norm, ln2 here).
        # The pre-trained one, which normalised each token for the pre-training's head,
        # is dropped with that head.
        out_type='avg_featmap',
        final_norm=False,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        ),
    ),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=768,
        loss=dict(type='LabelSmoothLoss', label_smooth_val=0.1, mode='original'),
        # BEiT's 0.02, scaled by 0.001: the first steps hardly disturb the backbone.
        init_cfg=dict(type='TruncNormal', layer='Linear', std=2e-5),
    ),
    # One of the two for each batch, with equal probability.
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.8), dict(type='CutMix', alpha=1.0)]
    ),
)

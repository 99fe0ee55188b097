# Classifier on ResNet-50 for fine-tuning as in "ResNet strikes back": a binary
# cross-entropy for each class, mixed images. The labels of mixed images are soft, as
# in mmpretrain's runs of A2 (79.55) and A3 (78.30) from scratch; in the paper they are 1.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='ResNet',
        depth=50,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/resnet50_8xb256-300e/epoch_300_backbone.safetensors',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(
        type='LinearClsHead',
        num_classes=1000,
        in_channels=2048,
        loss=dict(type='CrossEntropyLoss', use_sigmoid=True),
    ),
    # One of the two for each batch, with equal probability.
    train_cfg=dict(
        augments=[dict(type='Mixup', alpha=0.1), dict(type='CutMix', alpha=1.0)]
    ),
)

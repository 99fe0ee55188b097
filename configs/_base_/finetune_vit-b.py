# BEiT's fine-tuning, of the ViT-B/16 of models/cim_vit-b.py.
_base_ = './default_runtime.py'

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

# AdamW with layer-wise decay, 100 epochs, cosine after 20 epochs of warm-up, for an
# effective batch of 1024. Both ends are 1e-6 outside of the backbone and decay with the
# layers, as the learning rate does.
train_cfg = dict(type='EpochBasedTrainLoop', max_epochs=100, val_interval=1)
val_cfg = dict()
test_cfg = dict()
optim_wrapper = dict(
    type='AutoAmpOptimWrapper',
    constructor='LayerDecayOptimWrapperConstructor',
    paramwise_cfg=dict(layer_decay_rate=0.65),
    optimizer=dict(type='AdamW', lr=4e-3, betas=(0.9, 0.999), weight_decay=0.05),
)
warm_up = dict(
    type='LinearLR',
    start_factor=1e-6 / 4e-3,
    by_epoch=True,
    begin=0,
    end=20,
    convert_to_iter_based=True,
)
cosine = dict(
    type='CosineAnnealingLR',
    eta_min_ratio=1e-6 / 4e-3,
    by_epoch=True,
    begin=20,
    convert_to_iter_based=True,
)
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(enable=True, base_batch_size=1024)

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

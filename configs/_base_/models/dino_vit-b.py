# DINO on a ViT-B/16; the teacher is a copy of backbone and neck, without drop path.
model = dict(
    type='DINO',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        drop_path_rate=0.1,
        init_cfg=[
            dict(type='TruncNormal', layer='Linear', std=0.02),
            dict(type='Constant', layer='LayerNorm', val=1.0, bias=0.0),
        ],
    ),
    neck=dict(
        type='DINONeck',
        in_channels=768,
        hid_channels=2048,
        bottleneck_channels=256,
        out_channels=65536,
        norm_last_layer=True,
    ),
    head=dict(type='DINOHead', out_channels=65536, student_temperature=0.1),
    momentum=0.996,
)
custom_hooks = [
    dict(type='DINOHook', teacher_temperature=(0.04, 0.07), warm_up=30, freeze=1)
]

# Classifier on frozen features of any backbone: of a ViT the mean of the patch tokens
# after the pre-trained norm, as CIM gives the class token no objective. By default that
# of cim_vit-b.py.
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='VisionTransformer',
        arch='deit-base',
        img_size=224,
        patch_size=16,
        out_type='featmap',
        frozen_stages=12,
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        ),
    ),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=1000, in_channels=768),
)

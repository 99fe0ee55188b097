# Classifier on frozen features of the ViT-S/16 of cim_vit-s.py.
_base_ = 'cls_vit-b_frozen.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_8xb256-300e/epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384),
)

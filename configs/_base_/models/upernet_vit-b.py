# UperNet on ViT-B/16 as in BEiT: the maps of four layers, rescaled to strides 4 to 32.
_base_ = 'upernet_resnet50.py'

model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.VisionTransformer',
        arch='deit-base',
        img_size=512,
        patch_size=16,
        drop_path_rate=0.1,
        final_norm=False,  # none of the four maps is normalised
        out_type='featmap',
        out_indices=[3, 5, 7, 11],
    ),
    neck=dict(type='Feature2Pyramid', embed_dim=768, norm_cfg=_base_.norm_cfg),
    decode_head=dict(in_channels=[768, 768, 768, 768], channels=768),
    auxiliary_head=dict(in_channels=768),
    test_cfg=dict(mode='slide', crop_size=(512, 512), stride=(341, 341)),
)

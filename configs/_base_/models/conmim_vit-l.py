# ConMIM on a BEiT-style ViT-L/16.
_base_ = 'conmim_vit-b.py'

model = dict(
    backbone=dict(arch='large', layer_scale_init_value=1e-5),
    neck=dict(in_channels=1024),
)

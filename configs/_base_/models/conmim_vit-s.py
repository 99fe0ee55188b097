# ConMIM on a BEiT-style ViT-S/16.
_base_ = 'conmim_vit-b.py'

model = dict(backbone=dict(arch='deit-small'), neck=dict(in_channels=384))

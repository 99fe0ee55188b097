# upernet_vit-b.py with the widths, layers and drop path of BEiT's ViT-L/16.
_base_ = './upernet_vit-b.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.2, out_indices=[7, 11, 15, 23]),
    neck=dict(embed_dim=1024),
    decode_head=dict(in_channels=[1024, 1024, 1024, 1024], channels=1024),
    auxiliary_head=dict(in_channels=1024),
)

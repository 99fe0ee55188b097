# Mask R-CNN as in ViTDet: windows of 14 patches, four global layers, and a pyramid of the
# last map. Norms are over the channels of a pixel.
_base_ = 'mask-rcnn_resnet50.py'

norm_cfg = dict(type='mmpretrain.LN2d', eps=1e-6)
model = dict(
    backbone=dict(
        _delete_=True,
        type='mmpretrain.WindowedViT',
        arch='deit-base',
        img_size=1024,
        patch_size=16,
        window_size=14,
        drop_path_rate=0.1,
    ),
    neck=dict(
        _delete_=True,
        type='mmpretrain.SimpleFeaturePyramid',
        in_channels=768,
        norm_cfg=norm_cfg,
    ),
    roi_head=dict(bbox_head=dict(norm_cfg=norm_cfg), mask_head=dict(norm_cfg=norm_cfg)),
)

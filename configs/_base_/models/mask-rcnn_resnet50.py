# Mask R-CNN with FPN on ResNet-50. Pyramid and heads have norms, as they start from
# random weights.
_base_ = 'mmdet::_base_/models/mask-rcnn_r50_fpn.py'

norm_cfg = dict(type='BN')
model = dict(
    # Padded here, not by a transform: boxes in the padding would be predicted and drawn.
    data_preprocessor=dict(pad_size_divisor=1024),
    backbone=dict(
        _delete_=True, type='mmpretrain.ResNet', depth=50, out_indices=(0, 1, 2, 3)
    ),
    neck=dict(norm_cfg=norm_cfg),
    rpn_head=dict(num_convs=2),
    roi_head=dict(
        bbox_head=dict(type='Shared4Conv1FCBBoxHead', norm_cfg=norm_cfg),
        mask_head=dict(norm_cfg=norm_cfg),
    ),
)

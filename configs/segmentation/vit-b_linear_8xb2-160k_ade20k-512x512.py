"""One linear layer on ViT-B/16 of CIM-ResPix, ADE20K at 512 px, 160,000 iterations.

    tools/dist_train.sh configs/segmentation/vit-b_linear_8xb2-160k_ade20k-512x512.py 8

The paper's decoder; 43.5 mIoU is probably its number for it (43.6 for RevDet). Learning
rate and layer-wise decay are BEiT's, as the paper's are not known.
"""

_base_ = [
    '../_base_/models/linear_vit-b.py',
    '../_base_/datasets/ade20k_512.py',
    '../_base_/schedules/seg_160k.py',
    '../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)

"""One linear layer on ViT-B/16, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/vit-b_linear_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

CIM's decoder. Learning rate and layer-wise decay are BEiT's, as its own are not known.

Paper: 43.5 mIoU after CIM-ResPix, 43.6 after CIM-RevDet; that they are of it is inferred.
"""

_base_ = ['../_base_/models/linear_vit-b.py', '../_base_/ade20k_160k.py']

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/vit-b_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)

"""FCN, ResNet-50, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/resnet50_fcn_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

CIM's decoder for ResNet-50. Learning rate and stage-wise decay are ConvNeXt's, as its own
are not known.

Paper: 38.7 mIoU after CIM-ResPix, 39.0 after CIM-RevDet; that they are of it is inferred.
"""

_base_ = ['../_base_/models/fcn_resnet50.py', '../_base_/ade20k_160k.py']

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/cim/resnet50_8xb256-300e/epoch_300_backbone.safetensors',
        )
    ),
)
optim_wrapper = dict(
    optimizer=dict(lr=1e-4),
    paramwise_cfg=dict(layer_decay_rate=0.9, stage_wise=True),
)

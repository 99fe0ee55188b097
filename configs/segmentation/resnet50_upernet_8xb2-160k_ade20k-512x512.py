"""UperNet, ResNet-50, ADE20K at 512 px, 160,000 iterations.

    C=configs/segmentation/resnet50_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8 --pretrained FILE

Learning rate and stage-wise decay are ConvNeXt's on ADE20K, as the paper's are not known.
"""

_base_ = ['../_base_/models/upernet_resnet50.py', '../_base_/ade20k_160k.py']

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

"""UperNet, ViT-L/16 of ConMIM, ADE20K at 512 px, 160,000 iterations.

    C=configs/conmim/benchmarks/vit-l_conmim_upernet_8xb2-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8

The authors follow BEiT, whose ViT-L has this learning rate, layer-wise decay and drop
path, for an encoder that had labels before. Of another pre-training:
--cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = [
    '../../_base_/models/upernet_vit-l.py',
    '../../_base_/datasets/ade20k_512.py',
    '../../_base_/schedules/seg_160k.py',
    '../../_base_/seg_runtime.py',
]

model = dict(
    data_preprocessor=_base_.data_preprocessor,
    backbone=dict(
        type='mmpretrain.FusedBEiTViT',
        init_cfg=dict(
            type='Pretrained',
            checkpoint='work_dirs/vit-l_conmim_32xb64-1600e/'
            'epoch_1600_backbone.safetensors',
        ),
    ),
)

optim_wrapper = dict(
    optimizer=dict(lr=2e-5), paramwise_cfg=dict(layer_decay_rate=0.95)
)

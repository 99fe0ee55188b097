"""Fine-tuning of a ViT-S/16 on ImageNet-1k, 200 epochs.

    C=configs/benchmarks/vit-s_finetune_8xb128-200e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

That ViT-S takes BEiT's numbers for ViT-B but for the epochs is a choice.

Paper: 81.5 top-1 after CIM-ResPix, 81.6 after CIM-RevDet, 82.0 after ConMIM.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-s_8xb256-300e/epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384),
)

train_cfg = dict(max_epochs=200)

"""Fine-tuning of CorrIM's ViT-S/16 on ImageNet-1k, 200 epochs, by its authors' recipe.

C=configs/benchmarks/vit-s_corrim_finetune_8xb256-200e_in1k.py
tools/dist_train.sh $C 8 --pretrained FILE
"""

_base_ = './vit-b_corrim_finetune_8xb256-100e_in1k.py'

model = dict(
    backbone=dict(
        arch='deit-small',
        init_cfg=dict(
            checkpoint='work_dirs/corrim/vit-s_corrim_8xb256-accum2-300e/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384),
)

train_cfg = dict(max_epochs=200)

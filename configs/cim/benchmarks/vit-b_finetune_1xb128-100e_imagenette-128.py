r"""Fine-tuning of CIM's ViT-B/8 on Imagenette at 128 px, 100 epochs, for one GPU.

    python tools/train.py \
        configs/cim/benchmarks/vit-b_finetune_1xb128-100e_imagenette-128.py

With 5 labels per class: --cfg-options train_dataloader.dataset.num_per_class=5
"""

_base_ = './vit-s_finetune_1xb128-100e_imagenette-128.py'

model = dict(
    backbone=dict(
        arch='deit-base',
        init_cfg=dict(
            checkpoint='work_dirs/vit-b_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=768),
)

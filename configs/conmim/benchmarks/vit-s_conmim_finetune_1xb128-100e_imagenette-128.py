r"""Fine-tuning of ConMIM's ViT-S/8 on Imagenette at 128 px, 100 epochs, one small GPU.

    python tools/train.py \
        configs/conmim/benchmarks/vit-s_conmim_finetune_1xb128-100e_imagenette-128.py

With 5 labels per class: --cfg-options train_dataloader.dataset.num_per_class=5
"""

_base_ = [
    '../../_base_/models/cls_beit-b.py',
    '../../_base_/datasets/imagenette_cls_128_beit.py',
    '../../_base_/schedules/adamw_finetune_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        arch='deit-small',
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            checkpoint='work_dirs/vit-s_conmim_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384, num_classes=10),
)

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

r"""Fine-tuning of a ViT-B/8 on Imagenette at 128 px, 100 epochs, for one GPU.

    python tools/train.py \
        configs/benchmarks/vit-b_finetune_1xb128-100e_imagenette-128.py --pretrained FILE

With 5 labels per class: --cfg-options train_dataloader.dataset.num_per_class=5
"""

_base_ = [
    '../_base_/models/cls_vit-b.py',
    '../_base_/datasets/imagenette_cls_128.py',
    '../_base_/datasets/imagenet_cls_augment.py',
    '../_base_/schedules/adamw_finetune_100e.py',
    '../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-b_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(num_classes=10),
)

train_pipeline = [
    _base_.load,
    _base_.crop,
    _base_.flip,
    *_base_.beit_augment,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

r"""Fine-tuning of a ViT-S/8 on Imagenette at 128 px, 100 epochs, for one small GPU.

    python tools/train.py \
        configs/benchmarks/vit-s_finetune_1xb128-100e_imagenette-128.py --pretrained FILE

With 5 labels per class, fewer images than a batch:

    --cfg-options train_dataloader.dataset.num_per_class=5 \
        train_dataloader.drop_last=False
"""

_base_ = ['../_base_/finetune_vit-b.py', '../_base_/datasets/imagenette_cls_128.py']

model = dict(
    backbone=dict(
        arch='deit-small',
        img_size=128,
        patch_size=8,
        init_cfg=dict(
            checkpoint='work_dirs/cim/vit-s_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        ),
    ),
    head=dict(in_channels=384, num_classes=10),
)

train_pipeline = [
    _base_.load,
    _base_.crop,
    _base_.flip,
    *_base_.beit_augment,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

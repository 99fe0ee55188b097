r"""Fine-tuning of a ResNet-50 on Imagenette at 128 px, 100 epochs, procedure A3.

    python tools/train.py \
        configs/benchmarks/resnet50_rsb-a3_1xb128-100e_imagenette-128.py --pretrained FILE

Trained and tested at one size. Its learning rate, how far LAMB moves the weights in a
step relative to their size, stays that of ImageNet: there are 8 times fewer steps.
"""

_base_ = ['../_base_/finetune_resnet50.py', '../_base_/datasets/imagenette_cls_128.py']

model = dict(
    backbone=dict(
        init_cfg=dict(
            checkpoint='work_dirs/cim/resnet50_1xb128-300e_imagenette-128/'
            'epoch_300_backbone.safetensors'
        )
    ),
    head=dict(num_classes=10, loss=dict(loss_weight=1 / 10)),
)

train_pipeline = [
    _base_.load,
    _base_.crop,
    _base_.flip,
    {**_base_.rand_augment, 'magnitude_level': 6},
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))
auto_scale_lr = dict(base_batch_size=128)

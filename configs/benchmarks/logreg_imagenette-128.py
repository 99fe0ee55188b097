"""Logistic regression on features of any frozen backbone, Imagenette at 128 px.

    python tools/test.py configs/benchmarks/logreg_imagenette-128.py --pretrained FILE

With all labels by default; with 5 per class:
--cfg-options test_cfg.train_dataloader.dataset.num_per_class=5
"""

_base_ = [
    '../_base_/models/cls_vit-b_frozen.py',
    '../_base_/datasets/imagenette_cls_128_frozen.py',
    '../_base_/default_runtime.py',
]

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
test_cfg = dict(type='LinearProbeLoop')

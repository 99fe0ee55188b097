r"""MoCo v3 on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/mocov3.py --work-dir $W/mocov3
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/mocov3/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/mocov3_vit-b.py', '../_base_/quickstart.py']

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
    ),
    neck=dict(in_channels=96, hid_channels=256, out_channels=64),
    head=dict(predictor=dict(in_channels=64, hid_channels=256, out_channels=64)),
)

# Each digit is rotated, moved and stretched twice, differently; it has no colours.
data_preprocessor = dict(
    type='TwoCropsDataPreprocessor',
    crop_augments=[
        dict(
            type='StrongAugment',
            grey_prob=0.0,
            blur_prob=1.0,
            blur_sigma=(0.1, 0.5),
            solarize_prob=0.0,
        ),
        dict(
            type='StrongAugment',
            grey_prob=0.0,
            blur_sigma=(0.1, 0.5),
            solarize_prob=0.0,
        ),
    ],
)
train_pipeline = [_base_.to_pil, _base_.views, _base_.pack]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

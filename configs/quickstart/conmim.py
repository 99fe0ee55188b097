r"""ConMIM on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/conmim.py --work-dir $W/conmim
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/conmim/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/conmim_vit-b.py', '../_base_/quickstart.py']

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
        layer_scale_init_value=1.0,
    ),
    neck=dict(in_channels=96, hid_channels=256, out_channels=64),
    masking=dict(ratio=0.5),  # of 3 x 3 squares, 5 are masked
    momentum=0.99,
)
# Digits have no colours to change.
data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(
        type='StrongAugment', grey_prob=0.0, blur_sigma=(0.1, 0.5), solarize_prob=0.0
    ),
)

# Only relative positions distinguish masked patches; their biases start at zero and
# have a few hundred steps to grow.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

r"""SimMIM on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/simmim.py --work-dir $W/simmim
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/simmim/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/simmim_vit-b.py', '../_base_/quickstart.py']

data_preprocessor = dict(type='DevicePreprocessor')  # there is no tokenizer

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
        layer_scale_init_value=1.0,
    ),
    neck=dict(in_channels=96, encoder_stride=4),
    head=dict(patch_size=4),
    # 6 of 3 x 3 squares.
    masking=dict(ratio=0.6),
)

# Only relative positions distinguish masked patches, as in conmim.py.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

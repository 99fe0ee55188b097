r"""ConMIM on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/conmim.py --work-dir $W/conmim
    python tools/test.py configs/quickstart/linear_probe.py --cfg-options \
        model.backbone.type=FusedBEiTViT \
        model.backbone.init_cfg.checkpoint=$W/conmim/iter_400_backbone.safetensors
"""

_base_ = [
    '../_base_/models/quickstart_conmim.py',
    '../_base_/datasets/digits_conmim.py',
    '../_base_/schedules/quickstart_cim.py',
    '../_base_/quickstart_runtime.py',
]


# Masked patches are told apart by their relative positions alone, which begin at zero and
# have a few hundred steps to grow.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

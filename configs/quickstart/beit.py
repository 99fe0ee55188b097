r"""BEiT on handwritten digits, with the quickstart's tokenizer.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/beit.py --work-dir $W/beit
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/beit/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/beit_vit-b.py', '../_base_/quickstart.py']

model = dict(
    tokenizer=dict(
        _delete_=True,
        type='DiscreteVAE',
        checkpoint=_base_.tokenizer_checkpoint,
    ),
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
        layer_scale_init_value=1.0,
        drop_path_rate=0.0,
    ),
    head=dict(embed_dims=96, vocab_size=32),
    # About half of 6 x 6 patches.
    masking=dict(num_masked=16, min_block=4),
)

# Only relative positions distinguish masked patches, as in conmim.py.
optim_wrapper = dict(
    paramwise_cfg=dict(custom_keys=dict(relative_position_bias_table=dict(lr_mult=30.0)))
)

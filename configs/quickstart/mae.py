r"""MAE on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/mae.py --work-dir $W/mae
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/mae/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/quickstart.py']

data_preprocessor = dict(type='DevicePreprocessor')  # there is no tokenizer

model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
    ),
    neck=dict(
        num_patches=36,
        patch_size=4,
        embed_dim=96,
        decoder_embed_dim=64,
        decoder_depth=2,
        decoder_num_heads=2,
    ),
    # Normalised patches of digits, most of them black, would be noise.
    head=dict(patch_size=4, norm_pix=False),
)

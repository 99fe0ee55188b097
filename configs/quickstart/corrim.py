r"""CorrIM on handwritten digits, at the size of the quickstart.

    W=work_dirs/quickstart
    python tools/train.py configs/quickstart/corrim.py --work-dir $W/corrim
    python tools/test.py configs/quickstart/linear_probe.py \
        --pretrained $W/corrim/iter_400_backbone.safetensors
"""

_base_ = ['../_base_/models/corrim_vit-b.py', '../_base_/quickstart.py']

# Contexts of 6 x 6 patches, and six exemplars of 3 x 3.
model = dict(
    backbone=dict(
        arch=dict(_delete_=True, **_base_.arch),
        img_size=24,
        patch_size=4,
    ),
    neck=dict(in_channels=96, grid=(6, 6), embed_dims=96, num_heads=3),
    head=dict(in_channels=96),
    # The released head of large weights needs more than a few hundred steps.
    initial_weights='mocov3',
)
data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=24,
    exemplars=dict(type='ExemplarSampling', size=12),
    augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, 0.5)),
    exemplar_flip_prob=0.0,  # a mirrored digit is no digit
)

# What fine-tuning adds to crop and flip. Colours are those of the loaded image, BGR.

# RandAugment mstd0.5-inc1; each procedure of "ResNet strikes back" has its own
# magnitude_level.
rand_augment = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)
# BEiT's, with erased rectangles of noise. Its script also names colour jitter 0.4, which
# timm leaves out beside RandAugment.
beit_augment = [
    {**rand_augment, 'magnitude_level': 9},
    dict(
        type='RandomErasing',
        erase_prob=0.25,
        mode='rand',
        min_area_ratio=0.02,
        max_area_ratio=1 / 3,
        fill_color=[103.53, 116.28, 123.675],
        fill_std=[57.375, 57.12, 58.395],
    ),
]

# RandAugment of "ResNet strikes back", mstd0.5-inc1; each procedure has its own
# magnitude_level. The fill colour is that of the loaded image, BGR.
rand_augment = dict(
    type='RandAugment',
    policies='timm_increasing',
    num_policies=2,
    total_level=10,
    magnitude_std=0.5,
    hparams=dict(pad_val=[104, 116, 124], interpolation='bicubic'),
)

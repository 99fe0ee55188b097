"""CorrIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/corrim/vit-b_corrim_8xb256-accum2-300e.py 8

Paper: 83.1 top-1 fine-tuned for 100 epochs, by the authors' repository.
"""

_base_ = ['../_base_/models/corrim_vit-b.py', '../_base_/pretrain_imagenet_224.py']

# The context, six exemplars and their label maps are made on the device.
data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=160,
    exemplars=dict(
        type='ExemplarSampling',
        num=6,
        size=64,
        scale=(0.05, 0.48),
        aspect_ratio=(1 / 3, 3.0),
        degrees=(-45, 44),  # as released; +45 does not occur
    ),
    augment=dict(
        type='StrongAugment',
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_prob=0.8,
        grey_prob=0.2,
        blur_prob=0.5,
        blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    ),
    exemplar_flip_prob=0.5,
)

# Larger crops than those of CIM.
train_pipeline = [
    _base_.load,
    {**_base_.crop, 'crop_ratio_range': (0.5, 1.0)},
    _base_.pack,
]
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))

# For an effective batch of 4096. Gradients are not clipped: the released command asks for
# 1.0, but its code does so only with the mixed precision that it never turns on. To clip:
#   --cfg-options optim_wrapper.clip_grad.max_norm=1.0
# Where the hardware has bfloat16 we compute in it; the released code ran in float32:
#   --cfg-options optim_wrapper.precision=float32
optim_wrapper = dict(
    optimizer=dict(lr=2.4e-3, betas=(0.9, 0.95)),
    clip_grad=None,
    accumulative_counts=2,
)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]
auto_scale_lr = dict(base_batch_size=4096)

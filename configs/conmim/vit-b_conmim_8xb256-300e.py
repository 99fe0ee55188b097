"""ConMIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/conmim/vit-b_conmim_8xb256-300e.py 8

Beside each checkpoint stands the momentum encoder's backbone, which the authors
fine-tune; the online one instead: --cfg-options model.export=online

Paper: 83.5 top-1 fine-tuned for 100 epochs.
"""

_base_ = ['../_base_/models/conmim_vit-b.py', '../_base_/pretrain_imagenet_224.py']

# Two views of the same crop and flip are made on the device, one of them in other
# colours.
data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(
        type='StrongAugment',
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_prob=0.8,
        grey_prob=0.2,
        blur_prob=0.1,
        blur_sigma=(0.1, 2.0),
        solarize_prob=0.2,
    ),
)

# The projector's batch norms see the tokens of all GPUs, so that results do not depend
# on how the batch is split over them.
sync_bn = 'torch'

# Learning rate, warm-up and no clipping are the defaults of the released code; that they
# are meant for the effective batch of 2048, which is known of ViT-L, is a choice.
optim_wrapper = dict(optimizer=dict(lr=5e-4), clip_grad=None)
warm_up = {**_base_.warm_up, 'end': 5}
cosine = {**_base_.cosine, 'begin': 5}
param_scheduler = [warm_up, cosine]

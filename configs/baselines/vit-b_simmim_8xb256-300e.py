"""SimMIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_simmim_8xb256-300e.py 8

With the crops and the schedule of CIM; learning rate, betas and clipping are those of
mmpretrain's Swin.
"""

_base_ = ['../_base_/models/simmim_vit-b.py', '../_base_/pretrain_imagenet_224.py']

optim_wrapper = dict(
    optimizer=dict(lr=8e-4, betas=(0.9, 0.999)), clip_grad=dict(max_norm=5.0)
)

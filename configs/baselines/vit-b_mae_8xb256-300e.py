"""MAE, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_mae_8xb256-300e.py 8

With the crops and the epochs of CIM; learning rate, its schedule, betas and no clipping
are MAE's.
"""

_base_ = ['../_base_/models/mae_vit-b.py', '../_base_/pretrain_imagenet_224.py']

optim_wrapper = dict(optimizer=dict(lr=1.2e-3, betas=(0.9, 0.95)), clip_grad=None)
param_scheduler = [
    {**_base_.warm_up, 'end': 40},
    {**_base_.cosine, 'eta_min': 0.0, 'begin': 40},
]

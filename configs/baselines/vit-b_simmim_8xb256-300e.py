"""SimMIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_simmim_8xb256-300e.py 8

With the crops and the schedule of CIM; learning rate, drop path, betas and clipping are
SimMIM's.
"""

_base_ = ['../_base_/models/simmim_vit-b.py', '../_base_/pretrain_imagenet_224.py']

model = dict(backbone=dict(drop_path_rate=0.1))
optim_wrapper = dict(
    optimizer=dict(lr=4e-4, betas=(0.9, 0.999)), clip_grad=dict(max_norm=5.0)
)

"""DINO, ViT-B/16, ImageNet-1k, 400 epochs.

    tools/dist_train.sh configs/baselines/vit-b_dino_8xb128-400e.py 8

The recipe of the authors' published ViT-B/16 as far as it is known; local crops come out
of the global ones, on the device. What differs: docs/choices.md.
"""

_base_ = ['../_base_/models/dino_vit-b.py', '../_base_/pretrain_imagenet_224.py']

# Ten local crops, with the mean area of 0.05 to 0.25 of the whole image.
data_preprocessor = dict(
    type='MultiCropDataPreprocessor', num_per_crop=5, local_scale=(0.08, 0.4)
)
# Two global crops of each image leave the loader.
crop = {**_base_.crop, 'crop_ratio_range': (0.25, 1.0)}
train_pipeline = [_base_.load, {**_base_.views, 'transforms': [[crop]]}, _base_.pack]
train_dataloader = dict(batch_size=128, dataset=dict(pipeline=train_pipeline))

train_cfg = dict(max_epochs=400)
optim_wrapper = dict(
    optimizer=dict(lr=3e-3, betas=(0.9, 0.999), weight_decay=0.04),
    clip_per_parameter=True,
)
# To 0.4; biases, norms, class token and positions stay at 0.
weight_decay = dict(
    type='CosineAnnealingParamScheduler',
    param_name='weight_decay',
    eta_min_ratio=10.0,
    by_epoch=True,
    convert_to_iter_based=True,
)
param_scheduler = [_base_.warm_up, {**_base_.cosine, 'eta_min': 1e-6}, weight_decay]
auto_scale_lr = dict(base_batch_size=1024)
custom_hooks = [dict(type='DINOHook', warm_up=50, freeze=3)]

"""CorrIM, ResNet-50, Imagenette at 128 px, 300 epochs, for one small GPU.

    python tools/train.py configs/corrim/resnet50_corrim_1xb128-300e_imagenette-128.py

Contexts keep the image's 128 px and exemplars have 64 px: its cells are of 32 px.
"""

_base_ = [
    '../_base_/models/corrim_resnet50.py',
    '../_base_/datasets/imagenette_corrim_128.py',
    '../_base_/schedules/adamw_cosine_corrim_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(neck=dict(grid=(4, 4)))
data_preprocessor = dict(context_size=128, exemplars=dict(size=64))

train_dataloader = dict(batch_size=128)
optim_wrapper = dict(optimizer=dict(lr=5e-4), accumulative_counts=1)
auto_scale_lr = dict(base_batch_size=128)

# The result does not depend on how the batch is split over GPUs.
sync_bn = 'torch'

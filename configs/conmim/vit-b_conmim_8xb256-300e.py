"""ConMIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/conmim/vit-b_conmim_8xb256-300e.py 8

The paper: 83.5 top-1 fine-tuned for 100 epochs. Beside each checkpoint stands the
momentum encoder's backbone, which the authors fine-tune; the online one instead:
--cfg-options model.export=online
"""

_base_ = [
    '../_base_/models/conmim_vit-b.py',
    '../_base_/datasets/imagenet_conmim_224.py',
    '../_base_/schedules/adamw_cosine_conmim_300e.py',
    '../_base_/default_runtime.py',
]


# The projector's batch norms see the tokens of all GPUs, so that results do not depend
# on how the batch is split over them.
sync_bn = 'torch'

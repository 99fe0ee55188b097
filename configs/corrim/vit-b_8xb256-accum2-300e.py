"""CorrIM, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/corrim/vit-b_8xb256-accum2-300e.py 8

The authors' repository: 83.1 top-1 fine-tuned for 100 epochs.
"""

_base_ = [
    '../_base_/models/corrim_vit-b.py',
    '../_base_/datasets/imagenet_corrim_224.py',
    '../_base_/schedules/adamw_cosine_corrim_300e.py',
    '../_base_/default_runtime.py',
]

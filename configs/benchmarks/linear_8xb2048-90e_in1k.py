"""Linear probe of any frozen backbone on ImageNet-1k, 90 epochs of training.

    C=configs/benchmarks/linear_8xb2048-90e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

The papers have no linear probe: this is MAE's, with batch norm without parameters between
the frozen features and the classifier, on the mean of the patch tokens.
"""

_base_ = ['../_base_/linear_90e.py', '../_base_/datasets/imagenet_cls_224.py']

# 8 workers have 8 batches of 308 MB: 19.7 GB of shared memory for 8 GPUs, not 39.5.
train_dataloader = dict(batch_size=2048, prefetch_factor=1)

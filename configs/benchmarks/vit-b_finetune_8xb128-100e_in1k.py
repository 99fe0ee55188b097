"""Fine-tuning of a ViT-B/16 on ImageNet-1k, 100 epochs.

    C=configs/benchmarks/vit-b_finetune_8xb128-100e_in1k.py
    tools/dist_train.sh $C 8 --pretrained FILE

BEiT's recipe for its ViT-B, for the backbone of any method; which learning rate, layer
decay and warm-up CIM took is not known.

Paper: 83.3 top-1 after CIM-ResPix and after CIM-RevDet, 83.7 after 800 epochs of ConMIM.

    1 % of the labels: --cfg-options train_dataloader.dataset.fraction=0.01
"""

_base_ = ['../_base_/finetune_vit-b.py', '../_base_/datasets/imagenet_cls_224.py']

train_pipeline = [
    _base_.load,
    _base_.crop,
    _base_.flip,
    *_base_.beit_augment,
    _base_.pack,
]
train_dataloader = dict(dataset=dict(dataset=dict(pipeline=train_pipeline)))

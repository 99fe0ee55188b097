"""Fine-tuning of CIM's ViT-B/16 on ImageNet-1k, 100 epochs.

    tools/dist_train.sh configs/cim/benchmarks/vit-b_finetune_8xb128-100e_in1k.py 8

The paper: 83.3 top-1 after ResPix and after RevDet. The recipe is BEiT's for its ViT-B;
which learning rate, layer decay and warm-up CIM took is not known.

    another backbone:  --cfg-options model.backbone.init_cfg.checkpoint=FILE
    1 % of the labels: --cfg-options train_dataloader.dataset.fraction=0.01
"""

_base_ = [
    '../../_base_/models/cls_vit-b.py',
    '../../_base_/datasets/imagenet_cls_224_beit.py',
    '../../_base_/schedules/adamw_finetune_100e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

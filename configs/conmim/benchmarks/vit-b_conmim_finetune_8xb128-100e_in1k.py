r"""Fine-tuning of ConMIM's ViT-B/16 on ImageNet-1k, 100 epochs.

    C=configs/conmim/benchmarks/vit-b_conmim_finetune_8xb128-100e_in1k.py
    tools/dist_train.sh $C 8

The paper: 83.7 top-1 after 800 epochs, 83.5 after 300. The authors fine-tune the momentum
encoder, which is what stands beside a checkpoint. Theirs is BEiT's recipe.

    another backbone: --cfg-options model.backbone.init_cfg.checkpoint=FILE
    the online one:   --cfg-options model.backbone.init_cfg.prefix=backbone. \
                      model.backbone.init_cfg.checkpoint=FILE.pth
"""

_base_ = [
    '../../_base_/models/cls_beit-b.py',
    '../../_base_/datasets/imagenet_cls_224_beit.py',
    '../../_base_/schedules/adamw_finetune_100e.py',
    '../../_base_/default_runtime.py',
]

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

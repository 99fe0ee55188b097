"""ConMIM's ViT-B/16, fine-tuned at 224 px, fine-tuned on at 384 px for 10 epochs.

    C=configs/conmim/benchmarks/vit-b_conmim_finetune_8xb64-10e_in1k-384px.py
    tools/dist_train.sh $C 8

The paper: 85.3 top-1 after 800 epochs of pre-training. It begins with the whole
classifier of vit-b_conmim_finetune_8xb128-100e_in1k.py, head included, and adds a tenth
of its epochs; so much is known. Learning rate, layer-wise and weight decay are those by
which BEiT fine-tunes a classifier that had labels before; they, the 2 epochs of warm-up
and the test's whole short edge are choices.

    another classifier: --cfg-options model.init_cfg.checkpoint=FILE.pth
"""

_base_ = [
    '../../_base_/models/cls_beit-b.py',
    '../../_base_/datasets/imagenet_cls_384_beit.py',
    '../../_base_/schedules/adamw_finetune_100e.py',
    '../../_base_/default_runtime.py',
]

model = dict(
    backbone=dict(img_size=384, init_cfg=None),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/vit-b_conmim_finetune_8xb128-100e_in1k/epoch_100.pth',
    ),
)

train_cfg = dict(max_epochs=10)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=1e-8),
    paramwise_cfg=dict(layer_decay_rate=0.85),
)
param_scheduler = [
    {**_base_.param_scheduler[0], 'start_factor': 0.05, 'end': 2},
    {**_base_.param_scheduler[1], 'eta_min_ratio': 0.05, 'begin': 2, 'end': 10},
]
auto_scale_lr = dict(base_batch_size=512)

default_hooks = dict(checkpoint=dict(save_best='accuracy/top1'))

"""ConMIM's ViT-B/16, fine-tuned at 224 px, fine-tuned further at 384 px for 10 epochs.

    C=configs/benchmarks/vit-b_conmim_finetune_8xb64-10e_in1k-384px.py
    tools/dist_train.sh $C 8 --pretrained CLASSIFIER.pth

It begins with the whole classifier of vit-b_finetune_8xb128-100e_in1k.py, head included,
and adds a tenth of its epochs; so much is known. Learning rate, layer-wise and weight
decay are those by which BEiT fine-tunes a classifier that had labels before, without
Mixup and CutMix; they, the 2 epochs of warm-up and the test's whole short edge are
choices.

Paper: 85.3 top-1 after 800 epochs of pre-training.
"""

_base_ = './vit-b_finetune_8xb128-100e_in1k.py'

model = dict(
    backbone=dict(type='FusedBEiTViT', img_size=384, init_cfg=None),
    init_cfg=dict(
        type='Pretrained',
        checkpoint='work_dirs/benchmarks/vit-b_finetune_8xb128-100e_in1k/epoch_100.pth',
    ),
    train_cfg=None,  # neither Mixup nor CutMix
)

train_pipeline = [
    _base_.load,
    {**_base_.crop, 'scale': 384},
    _base_.flip,
    *_base_.beit_augment,
    _base_.pack,
]
# Tests shrink the short edge to what they crop.
test_pipeline = [
    dict(type='LoadImage'),
    {**_base_.resize, 'scale': 384},
    {**_base_.center_crop, 'crop_size': 384},
    _base_.pack,
]
train_dataloader = dict(
    batch_size=64, dataset=dict(dataset=dict(pipeline=train_pipeline))
)
val_dataloader = dict(batch_size=64, dataset=dict(pipeline=test_pipeline))
test_dataloader = val_dataloader

train_cfg = dict(max_epochs=10)
optim_wrapper = dict(
    optimizer=dict(lr=2e-5, weight_decay=1e-8),
    paramwise_cfg=dict(layer_decay_rate=0.85),
)
warm_up = {**_base_.warm_up, 'start_factor': 0.05, 'end': 2}
cosine = {**_base_.cosine, 'eta_min_ratio': 0.05, 'begin': 2}
param_scheduler = [warm_up, cosine]
auto_scale_lr = dict(base_batch_size=512)

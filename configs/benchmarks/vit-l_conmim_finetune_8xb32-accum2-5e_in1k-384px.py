"""ConMIM's ViT-L/16, fine-tuned at 224 px, fine-tuned further at 384 px for 5 epochs.

    C=configs/benchmarks/vit-l_conmim_finetune_8xb32-accum2-5e_in1k-384px.py
    tools/dist_train.sh $C 8 --pretrained CLASSIFIER.pth

What is known and what a choice is as with ViT-B; layer-wise decay and drop path are those
of BEiT's ViT-L.

Paper: 86.5 top-1 after 1600 epochs of pre-training, 86.3 after 800.
"""

_base_ = './vit-b_conmim_finetune_8xb64-10e_in1k-384px.py'

model = dict(
    backbone=dict(arch='large', drop_path_rate=0.4),
    head=dict(in_channels=1024),
    init_cfg=dict(
        checkpoint='work_dirs/benchmarks/vit-l_conmim_finetune_8xb128-50e_in1k/'
        'epoch_50.pth'
    ),
)

train_dataloader = dict(batch_size=32)
train_cfg = dict(max_epochs=5)
optim_wrapper = dict(accumulative_counts=2, paramwise_cfg=dict(layer_decay_rate=0.9))
param_scheduler = [
    {**_base_.warm_up, 'end': 1},
    {**_base_.cosine, 'begin': 1},
]

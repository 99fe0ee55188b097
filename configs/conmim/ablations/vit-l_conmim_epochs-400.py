"""ConMIM, ViT-L/16, ImageNet-1k, 400 epochs, on 4 nodes of 8 GPUs.

    C=configs/conmim/ablations/vit-l_conmim_epochs-400.py
    NNODES=4 NODE_RANK=0 MASTER_ADDR=10.0.0.1 tools/dist_train.sh $C 8

Paper: 84.6 top-1 fine-tuned at 224 px.
"""

_base_ = '../vit-l_conmim_32xb64-1600e.py'

train_cfg = dict(max_epochs=400)

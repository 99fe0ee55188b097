"""ConMIM, ViT-B/16, ImageNet-1k, 800 epochs.

    tools/dist_train.sh configs/conmim/ablations/vit-b_conmim_epochs-800.py 8

Paper: 83.7 top-1 fine-tuned at 224 px, 85.3 at 384 px.
"""

_base_ = '../vit-b_conmim_8xb256-300e.py'

train_cfg = dict(max_epochs=800)

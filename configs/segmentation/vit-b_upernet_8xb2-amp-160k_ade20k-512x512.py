"""vit-b_upernet_8xb2-160k_ade20k-512x512.py in bfloat16 where the GPU has it.

    C=configs/segmentation/vit-b_upernet_8xb2-amp-160k_ade20k-512x512.py
    tools/dist_train.sh $C 8

Of another pre-training: --cfg-options model.backbone.init_cfg.checkpoint=FILE
"""

_base_ = './vit-b_upernet_8xb2-160k_ade20k-512x512.py'

optim_wrapper = dict(type='mmpretrain.AutoAmpOptimWrapper')

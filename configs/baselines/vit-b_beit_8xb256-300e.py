"""BEiT, ViT-B/16, ImageNet-1k, 300 epochs.

    tools/dist_train.sh configs/baselines/vit-b_beit_8xb256-300e.py 8

With the crops and the schedule of CIM, which has it from BEiT; the betas are BEiT's. Its
colour jitter is left out. Any tokenizer will do: --cfg-options
model.tokenizer.checkpoint=FILE

Paper: 82.9 top-1 fine-tuned for 100 epochs, by the authors of CIM and ConMIM.
"""

_base_ = ['../_base_/models/beit_vit-b.py', '../_base_/pretrain_imagenet_224.py']

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=112)
optim_wrapper = dict(optimizer=dict(betas=(0.9, 0.999)))

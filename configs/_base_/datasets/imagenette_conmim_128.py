# Imagenette at 128 px for ConMIM: the crops of CIM, in two views. The blur is about half
# of that of 224 px.
_base_ = 'imagenette_pretrain_128.py'

data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(type='StrongAugment', blur_sigma=(0.1, 1.0)),
)

# scikit-learn's digits at 24 px for ConMIM, in two views. They have no colours to change.
_base_ = 'digits_cim.py'

data_preprocessor = dict(
    type='ConMIMDataPreprocessor',
    momentum_augment=dict(
        type='StrongAugment', grey_prob=0.0, blur_sigma=(0.1, 0.5), solarize_prob=0.0
    ),
)

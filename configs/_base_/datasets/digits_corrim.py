# scikit-learn's digits at 24 px for CorrIM: the image is the context, and six exemplars
# of 12 px are cut out of it on the device.
_base_ = 'digits_cim.py'

data_preprocessor = dict(
    type='CorrIMDataPreprocessor',
    context_size=24,
    exemplars=dict(type='ExemplarSampling', size=12),
    augment=dict(type='StrongAugment', blur_prob=0.5, blur_sigma=(0.1, 0.5)),
    exemplar_flip_prob=0.0,  # a mirrored digit is no digit
)

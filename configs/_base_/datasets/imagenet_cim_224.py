# ImageNet-1k for a method with a tokenizer, whose 112 px input is made on the device.
_base_ = 'imagenet_pretrain_224.py'

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=112)

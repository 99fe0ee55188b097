# Imagenette at 128 px for a method with a tokenizer, whose 64 px input, half the size as
# 112 is of 224, is made on the device.
_base_ = 'imagenette_pretrain_128.py'

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=64)

"""The enhancer sees blank patches instead of the generator's samples."""

_base_ = '../resnet50_8xb256-300e.py'

model = dict(tokenizer=None, generator=None, grid=(14, 14))

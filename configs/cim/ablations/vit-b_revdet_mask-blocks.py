"""BEiT's blockwise masks, with as many patches as the uniform ones on average."""

_base_ = '../vit-b_revdet_8xb256-300e.py'

model = dict(masking=dict(_delete_=True, type='BlockMasking', num_masked=110))

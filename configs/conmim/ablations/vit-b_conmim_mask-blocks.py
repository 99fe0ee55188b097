"""BEiT's blockwise masks of 75 patches, the default of ConMIM's code."""

_base_ = '../vit-b_conmim_8xb256-300e.py'

model = dict(masking=dict(_delete_=True, type='BlockMasking', num_masked=75))

"""CIM-ResPix with BEiT's data pipeline on the CPU, and its blockwise masks.

For an exact comparison with BEiT; about three times the loader's work.
"""

_base_ = [
    '../_base_/models/cim_vit-b.py',
    '../_base_/datasets/imagenet_cim_two_sizes_224.py',
    '../_base_/schedules/adamw_cosine_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(masking=dict(_delete_=True, type='BlockMasking'))

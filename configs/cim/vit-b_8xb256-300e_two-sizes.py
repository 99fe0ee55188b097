"""CIM-ResPix with BEiT's data pipeline and blockwise masks, all made on the CPU.

For an exact comparison with BEiT; about three times the loader's work.
"""

_base_ = [
    '../_base_/models/cim_vit-b.py',
    '../_base_/datasets/imagenet_cim_two_sizes_224.py',
    '../_base_/schedules/adamw_cosine_300e.py',
    '../_base_/default_runtime.py',
]

model = dict(masking=None)  # the pipeline makes the masks

r"""Quickstart, step 2: CIM-ResPix on handwritten digits.

    python tools/train.py configs/quickstart/cim_respix.py \
        --work-dir work_dirs/quickstart/cim_respix
"""

_base_ = [
    '../_base_/models/quickstart_cim.py',
    '../_base_/datasets/digits.py',
    '../_base_/schedules/quickstart_cim.py',
    '../_base_/quickstart_runtime.py',
]

r"""Quickstart, step 2: CIM-RevDet on handwritten digits.

    python tools/train.py configs/quickstart/cim_revdet.py \
        --work-dir work_dirs/quickstart/cim_revdet
"""

_base_ = './cim_respix.py'

model = dict(
    # With few tokens to look at, half of them replaced leave too little to compare with.
    masking=dict(type='RatioMasking', ratio=0.35),
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=96),
    ),
)

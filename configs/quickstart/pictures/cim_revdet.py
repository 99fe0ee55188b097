r"""Quickstart, step 2: CIM-RevDet on your own folder of pictures.

    python tools/train.py configs/quickstart/pictures/cim_revdet.py \
        --work-dir work_dirs/quickstart/cim_revdet \
        --cfg-options train_dataloader.dataset.data_root=DIR
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

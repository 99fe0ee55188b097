r"""Quickstart, step 2: CIM-RevDet on your image folder.

    python tools/train.py configs/quickstart/cim_revdet_images.py \
        --work-dir work_dirs/quickstart/cim_revdet \
        --cfg-options train_dataloader.dataset.data_root=DIR
"""

_base_ = './cim_respix_images.py'

model = dict(
    # Samples of a hotter softmax differ more often from the golden tokens: more to detect
    # in a few hundred steps. And no more than half are masked, to compare with the rest.
    masking=dict(type='RatioMasking', ratio=0.5),
    generator=dict(temperature=2.0),
    enhancer=dict(
        _delete_=True,
        type='RevDet',
        backbone=_base_.model.enhancer.backbone,
        head=dict(type='RevDetHead', in_channels=96),
    ),
)

r"""Quickstart, step 2: CIM-ResPix on your image folder.

    python tools/train.py configs/quickstart/cim_respix_images.py \
        --work-dir work_dirs/quickstart/cim_respix \
        --cfg-options train_dataloader.dataset.data_root=DIR
"""

_base_ = [
    '../_base_/models/quickstart_cim.py',
    '../_base_/datasets/images.py',
    '../_base_/schedules/quickstart_cim.py',
    '../_base_/quickstart_runtime.py',
]

size = dict(img_size=64, patch_size=8)
model = dict(
    generator=dict(backbone=size),
    enhancer=dict(backbone=size, neck=dict(encoder_stride=8)),
)

"""CIM-ResPix, a ViT, a folder of images; `mmcim pretrain DIR` trains it.

    mmcim train configs/images/vit_cim_respix.py --work-dir work_dirs/images/cim_respix \
        --cfg-options train_dataloader.dataset.data_root=DIR
"""

_base_ = ['../_base_/models/cim_vit-b.py', '../_base_/images.py']

data_preprocessor = dict(type='CIMDataPreprocessor', tokenizer_size=_base_.tokenizer_size)
model = dict(
    tokenizer=dict(_delete_=True, **_base_.tokenizer),
    masking=dict(_delete_=True, type='RatioMasking', ratio=_base_.mask_ratio),
    generator=dict(
        backbone=dict(
            arch=dict(_delete_=True, **{**_base_.arch, 'num_layers': 2}), **_base_.size
        ),
        head=dict(embed_dims=_base_.arch.embed_dims, vocab_size=_base_.vocab_size),
    ),
    enhancer=dict(
        backbone=dict(
            type=_base_.vit,
            arch=dict(_delete_=True, **_base_.arch),
            **_base_.size,
        ),
        neck=dict(
            in_channels=_base_.arch.embed_dims,
            encoder_stride=_base_.size.patch_size,
        ),
        head=dict(target_norm=dict(type='SlidingWindowNorm', window=_base_.window)),
    ),
)

r"""Quickstart, step 2: CIM-ResPix on handwritten digits.

    python tools/train.py configs/quickstart/cim_respix.py \
        --work-dir work_dirs/quickstart/cim_respix
"""

_base_ = '../_base_/quickstart.py'

model = dict(
    type='CIM',
    tokenizer=dict(
        type='DiscreteVAE',
        checkpoint=_base_.tokenizer_checkpoint,
    ),
    generator=dict(
        type='CIMGenerator',
        backbone=dict(
            type='FusedBEiTPretrainViT',
            arch=dict(_base_.arch, num_layers=2),
            **_base_.size,
        ),
        head=dict(type='MaskedTokenHead', embed_dims=96, vocab_size=32),
    ),
    enhancer=dict(
        type='ResPix',
        backbone=dict(
            # Positions of sines and cosines, and Xavier's initialisation: a few hundred
            # steps are too short to learn where a patch is.
            type='FixedPositionViT',
            arch=_base_.arch,
            **_base_.size,
            out_type='featmap',
        ),
        neck=dict(
            type='SimMIMLinearDecoder',
            in_channels=96,
            encoder_stride=_base_.size.patch_size,
        ),
        head=dict(type='ResPixHead'),
    ),
)

# Copyright (c) mmcim contributors. All rights reserved.
"""Every method at a reduced size: images of 32 px, 4 x 4 patches, 16 tokens.

Nothing is shared with other tests, so that changes of their fixtures keep the goldens.
"""

import torch
import torch.nn.functional as F
from mmpretrain.registry import MODELS
from torch import Tensor

from mmcim.models.layers import BaseMasking
from mmcim.models.tokenizers import BaseTokenizer

from .deterministic import generator, images, uniform

SIZE, PATCH, WIDTH, VOCAB = 32, 8, 16, 16
BATCH_SIZE, NUM_EXEMPLARS = 4, 3


@MODELS.register_module()
class GoldenTokenizer(BaseTokenizer):
    """The mean grey of each patch."""

    stride, vocab_size = PATCH, VOCAB

    def __init__(self) -> None:
        super().__init__()
        levels = torch.linspace(0, 1, VOCAB)
        self.register_buffer('levels', levels, persistent=False)
        self.identity = dict(type='GoldenTokenizer', source='tests', sha256='0')

    def _encode(self, images: Tensor) -> Tensor:
        grey = F.avg_pool2d(images.mean(dim=1), PATCH)
        return (grey * (VOCAB - 1)).round().long()

    def _decode(self, ids: Tensor) -> Tensor:
        grey = self.levels[ids].repeat_interleave(PATCH, 1).repeat_interleave(PATCH, 2)
        return grey[:, None].expand(-1, 3, -1, -1)


@MODELS.register_module()
class GoldenMasking(BaseMasking):
    """6 to 9 patches of each image, the same in every step."""

    def __call__(self, batch_size, grid, device):
        scores = torch.rand(batch_size, grid[0] * grid[1], generator=generator('mask'))
        count = 6 + torch.arange(batch_size)[:, None] % 4
        return (scores.argsort(1).argsort(1) < count).view(batch_size, *grid).to(device)


def vit(type: str = 'VisionTransformer', **kwargs) -> dict:
    arch = dict(embed_dims=WIDTH, num_layers=2, num_heads=2, feedforward_channels=32)
    return dict(type=type, arch=arch, img_size=SIZE, patch_size=PATCH, **kwargs)


def resnet() -> dict:
    """Stride 8, as the patches: its feature map is (B, 64, 4, 4)."""
    return dict(
        type='ResNet',
        depth=18,
        stem_channels=8,
        base_channels=8,
        strides=(1, 2, 1, 1),
        out_indices=(3,),
    )


ENCODERS = dict(vit=(vit(out_type='featmap'), WIDTH), resnet=(resnet(), 64))
MASKED_ENCODER = vit('FusedBEiTPretrainViT')
TOKEN_HEAD = dict(type='MaskedTokenHead', embed_dims=WIDTH, vocab_size=VOCAB)


def linear_decoder(channels: int) -> dict:
    return dict(type='SimMIMLinearDecoder', in_channels=channels, encoder_stride=PATCH)


def projector(channels: int, hidden: int, out: int, layers: int) -> dict:
    return dict(
        type='NonLinearNeck',
        in_channels=channels,
        hid_channels=hidden,
        out_channels=out,
        num_layers=layers,
        with_bias=False,
        with_last_bn_affine=False,
        with_avg_pool=False,
        norm_cfg=dict(type='BN1d'),
    )


def cim(enhancer: dict) -> dict:
    generator = dict(type='CIMGenerator', backbone=MASKED_ENCODER, head=TOKEN_HEAD)
    return dict(
        type='CIM',
        tokenizer=dict(type='GoldenTokenizer'),
        masking=dict(type='GoldenMasking'),
        generator=generator,
        enhancer=enhancer,
    )


def respix(encoder: str) -> dict:
    backbone, channels = ENCODERS[encoder]
    return dict(type='ResPix', backbone=backbone, neck=linear_decoder(channels))


def cim_respix(encoder: str) -> dict:
    return cim(respix(encoder))


def cim_revdet(encoder: str) -> dict:
    backbone, channels = ENCODERS[encoder]
    head = dict(type='RevDetHead', in_channels=channels)
    return cim(dict(type='RevDet', backbone=backbone, head=head))


def cim_blank() -> dict:
    """Blank patches instead of samples, without a generator."""
    masking = dict(type='GoldenMasking')
    return dict(type='CIM', masking=masking, grid=(4, 4), enhancer=respix('vit'))


def conmim(**positions) -> dict:
    return dict(
        type='ConMIM',
        backbone=MASKED_ENCODER | positions,
        neck=projector(WIDTH, 24, 16, layers=3),
        masking=dict(type='GoldenMasking'),
        momentum=0.9,
    )


def corrim(encoder: str) -> dict:
    position_vit = vit('FixedPositionViT', out_type='raw', stop_grad_conv1=True)
    backbone, channels = dict(vit=(position_vit, WIDTH), resnet=(resnet(), 64))[encoder]
    return dict(
        type='CorrIM',
        backbone=backbone,
        neck=dict(
            type='CorrelationDecoder',
            in_channels=channels,
            grid=(4, 4),
            embed_dims=WIDTH,
            num_heads=2,
        ),
        head=dict(type='CorrelationHead', in_channels=WIDTH),
        momentum=0.9,
        data_preprocessor=dict(
            context_size=SIZE,
            exemplars=dict(type='ExemplarSampling', num=NUM_EXEMPLARS, size=SIZE // 2),
        ),
    )


def beit() -> dict:
    return dict(
        type='BEiTBaseline',
        backbone=MASKED_ENCODER,
        head=TOKEN_HEAD,
        tokenizer=dict(type='GoldenTokenizer'),
        masking=dict(type='GoldenMasking'),
    )


def pixel_loss(criterion: str, **kwargs) -> dict:
    return dict(type='PixelReconstructionLoss', criterion=criterion, **kwargs)


def simmim() -> dict:
    loss = pixel_loss('L1', channel=3)
    return dict(
        type='SimMIMBaseline',
        backbone=MASKED_ENCODER,
        neck=linear_decoder(WIDTH),
        head=dict(type='SimMIMHead', patch_size=PATCH, loss=loss),
        masking=dict(type='GoldenMasking'),
    )


def mae() -> dict:
    neck = dict(
        type='MAEPretrainDecoder',
        num_patches=16,
        patch_size=PATCH,
        embed_dim=WIDTH,
        decoder_embed_dim=WIDTH,
        decoder_depth=1,
        decoder_num_heads=2,
    )
    loss = pixel_loss('L2')
    head = dict(type='MAEPretrainHead', norm_pix=True, patch_size=PATCH, loss=loss)
    backbone = vit('MAEBaselineViT', mask_ratio=0.75)
    return dict(type='MAEBaseline', backbone=backbone, neck=neck, head=head)


def mocov3() -> dict:
    return dict(
        type='MoCoV3Baseline',
        backbone=vit('FixedPositionViT', stop_grad_conv1=True),
        neck=projector(WIDTH, 24, 8, layers=2),
        head=dict(
            type='MoCoV3Head',
            predictor=projector(8, 24, 8, layers=2),
            loss=dict(type='CrossEntropyLoss', loss_weight=0.4),
            temperature=0.2,
        ),
        momentum=0.9,
    )


def discrete_vae() -> dict:
    network = dict(stride=4, vocab_size=VOCAB, width=16, depth=1, code_dims=8)
    backbone = dict(type='DiscreteVAENet', **network)
    return dict(type='DiscreteVAETrainer', backbone=backbone)


def plain_batch() -> dict:
    """One crop of each image, as collated by the data loader."""
    return dict(inputs=images('images', BATCH_SIZE, SIZE))


def two_crops() -> dict:
    return dict(inputs=[images(name, BATCH_SIZE, SIZE) for name in ('first', 'second')])


def exemplar_inputs() -> dict:
    """Preprocessed inputs of CorrIM: its crops depend on library resize code."""
    shape, half = (BATCH_SIZE, NUM_EXEMPLARS), SIZE // 2
    corners = (half * uniform('corners', *shape, 2, 1, 1)).long()
    rows, columns = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing='ij')
    down, across = rows - corners[:, :, 0], columns - corners[:, :, 1]
    regions = (down >= 0) & (down < half) & (across >= 0) & (across < half // 2)
    exemplars = 2 * uniform('exemplars', *shape, 3, half, half) - 1
    context = 2 * uniform('context', BATCH_SIZE, 3, SIZE, SIZE) - 1
    return dict(context=context, exemplars=exemplars, regions=regions)


PER_LAYER = dict(use_shared_rel_pos_bias=False, use_rel_pos_bias=True)
CONFIGS = {
    **{f'cim_respix_{encoder}': cim_respix(encoder) for encoder in ENCODERS},
    **{f'cim_revdet_{encoder}': cim_revdet(encoder) for encoder in ENCODERS},
    'cim_respix_vit_blank': cim_blank(),
    'conmim_shared_bias': conmim(),
    'conmim_bias_per_layer': conmim(**PER_LAYER),
    **{f'corrim_{encoder}': corrim(encoder) for encoder in ENCODERS},
    'beit': beit(),
    'mae': mae(),
    'mocov3': mocov3(),
    'simmim': simmim(),
    'discrete_vae': discrete_vae(),
}

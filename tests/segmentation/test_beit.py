# Copyright (c) mmcim contributors. All rights reserved.
"""UperNet with a backbone with relative position bias, at other image sizes."""

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, DefaultScope
from mmengine.structures import PixelData

pytest.importorskip('mmseg')
from mmseg.structures import SegDataSample  # noqa: E402

CONFIG = 'configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py'


def batch(shape, size):
    images = [torch.randint(256, (3, *shape), dtype=torch.uint8) for _ in range(size)]
    samples = [
        SegDataSample(
            gt_sem_seg=PixelData(data=torch.randint(11, (1, *shape))),
            metainfo=dict(ori_shape=shape, img_shape=shape, pad_shape=shape),
        )
        for _ in images
    ]
    return dict(inputs=images, data_samples=samples)


@pytest.mark.parametrize('shared', [True, False])
def test_upernet_with_beit_backbone(repo, shared):
    torch.manual_seed(0)
    cfg = Config.fromfile(repo / CONFIG)
    cfg.model.backbone = dict(
        type='mmpretrain.FusedBEiTViT',
        arch=dict(embed_dims=16, num_layers=4, num_heads=2, feedforward_channels=16),
        img_size=(64, 64),
        use_rel_pos_bias=not shared,
        use_shared_rel_pos_bias=shared,
        out_type='featmap',
        out_indices=[0, 1, 2, 3],
    )
    cfg.model.neck.embed_dim = 16
    cfg.model.decode_head.update(in_channels=[16] * 4, channels=8)
    cfg.model.auxiliary_head.update(in_channels=16, channels=8)
    cfg.model.data_preprocessor.size = (64, 64)
    with DefaultScope.overwrite_default_scope('mmseg'):
        model = MODELS.build(cfg.model)
        model.init_weights()
        optim = build_optim_wrapper(model, cfg.optim_wrapper)

    tables = [p for n, p in model.named_parameters() if n.endswith('bias_table')]
    assert len(tables) == (1 if shared else 4)
    for size in ((64, 64), (96, 32)):  # its own and a narrow one
        model.train()
        before = [table.detach().clone() for table in tables]
        model.data_preprocessor.size = size
        log = model.train_step(batch(size, 2), optim)
        assert torch.isfinite(log['loss'])
        assert not any(map(torch.equal, before, tables))

    seen = []
    model.backbone.register_forward_hook(lambda *args: seen.append(args[2][0].shape))
    model.eval()
    for shape in ((64, 64), (40, 110), (180, 240)):
        with torch.no_grad():
            (result,) = model.test_step(batch(shape, 1))
        assert result.pred_sem_seg.shape == shape
        assert result.seg_logits.data.isfinite().all()
    # Padded to multiples of 32 px, in patches of 16 px.
    assert seen == [(1, 16, 4, 4), (1, 16, 4, 8), (1, 16, 12, 16)]

# Copyright (c) mmcim contributors. All rights reserved.
"""MMSegmentation's own inferencers on a segmentor of ours."""

import pickle
from typing import NamedTuple

import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope
from PIL import Image

from ..cli.toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

pytest.importorskip('mmseg')
from mmseg.apis import MMSegInferencer, inference_model, init_model  # noqa: E402

BASE = REPO / 'configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py'
CONFIG = """
_base_ = {base!r}
loaders = dict(num_workers=0, dataset=dict(data_root='data'))
train_dataloader = dict(batch_size=2, **loaders)
val_dataloader = test_dataloader = loaders
train_cfg = dict(max_iters=1, val_interval=1)
param_scheduler = None
default_hooks = dict(checkpoint=dict(interval=1))
"""


class Segmentor(NamedTuple):
    config: str
    checkpoint: str
    image: str
    segmentation: np.ndarray
    """Of the image, by tools/test.py, (H, W)."""


@pytest.fixture(scope='module')
def segmentor(tmp_path_factory) -> Segmentor:
    folder = tmp_path_factory.mktemp('mmseg')
    random = np.random.default_rng(0)
    for split in ('train', 'val', 'test'):
        for name, shape in {split: (180, 240, 3), f'{split}annot': (180, 240)}.items():
            (folder / 'data' / name).mkdir(parents=True)
            pixels = random.integers(0, 12, shape, np.uint8) * (20 ** (len(shape) - 2))
            Image.fromarray(pixels).save(folder / 'data' / name / '0.png')
    config = folder / 'segmentor.py'
    config.write_text(CONFIG.format(base=str(BASE)))
    checkpoint = folder / 'run/iter_1.pth'
    predictions = folder / 'predictions.pkl'
    cases = dict(
        train=['train.py', config, '--work-dir', folder / 'run'],
        test=['test.py', config, checkpoint, '--out', predictions],
    )
    for name, result in run_forked(cases, folder).items():
        assert result.code == 0, f'{name}: {result.output}'
    (sample,) = pickle.loads(predictions.read_bytes())
    image = folder / sample['img_path']
    segmentation = sample['pred_sem_seg']['data'][0].numpy()
    return Segmentor(str(config), str(checkpoint), str(image), segmentation)


@pytest.fixture(autouse=True)
def mmseg_scope():
    """The inferencer changes the default scope of the process."""
    with DefaultScope.overwrite_default_scope('mmseg'):
        yield


def test_inferencer_draws_our_palette(segmentor, tmp_path):
    inferencer = MMSegInferencer(segmentor.config, segmentor.checkpoint, device='cpu')
    result = inferencer(
        segmentor.image, return_vis=True, opacity=1.0, with_labels=False,
        out_dir=str(tmp_path),
    )  # fmt: skip
    np.testing.assert_array_equal(result['predictions'], segmentor.segmentation)
    metainfo = Config.fromfile(BASE).metainfo
    meta = inferencer.model.dataset_meta
    assert meta == dict(classes=metainfo.classes, palette=metainfo.palette)
    colours = np.asarray(metainfo.palette)[segmentor.segmentation]
    # Drawn on a canvas of matplotlib, whose pixels shift a little.
    assert (result['visualization'] == colours).all(axis=2).mean() > 0.95
    assert {path.name for path in tmp_path.rglob('0*.*')} == {
        '0.png',
        '00000000_pred.png',
    }


def test_inference_model(segmentor):
    model = init_model(segmentor.config, segmentor.checkpoint, device='cpu')
    assert model.dataset_meta['classes'] == Config.fromfile(BASE).metainfo.classes
    found = inference_model(model, segmentor.image).pred_sem_seg.data[0].numpy()
    np.testing.assert_array_equal(found, segmentor.segmentation)

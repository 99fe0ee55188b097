# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

import mmcim_cli
from mmcim.utils import ConfigError
from mmcim.visualization import view_panels

from ..conftest import REPO
from ..models.selfsup.test_baselines import beit, mae, mocov3, simmim
from ..models.selfsup.test_corrim import corrim

ARCH = dict(embed_dims=16, num_layers=1, num_heads=2, feedforward_channels=16)


def images(model, size=32):
    generator = torch.Generator().manual_seed(0)
    batch = torch.randint(256, (2, 3, size, size), generator=generator)
    torch.manual_seed(0)
    data = model.data_preprocessor(dict(inputs=batch.to(torch.uint8)), training=True)
    return data['inputs']


@pytest.mark.parametrize('predict', [False, True])
def test_corrim_panels(predict):
    model = MODELS.build(corrim()).eval()
    inputs = images(model, 48)
    panels = view_panels(model, inputs, predict)
    names = ['exemplar', 'region', 'found'][: 3 if predict else 2]
    expected = [f'{name} {i}' for i in (1, 2, 3) for name in names]
    assert list(panels) == ['context', *expected]
    for name, shown in panels.items():
        assert shown.shape == (2, 3, 32, 32), name
        assert shown.min() >= 0 and shown.max() <= 1, name
    denormalize = model.data_preprocessor.denormalize
    assert panels['context'].equal(denormalize(inputs['context']))
    # 16 px enlarged to 32.
    crops = denormalize(inputs['exemplars'][:, 1])
    assert panels['exemplar 2'][..., ::2, 1::2].equal(crops)
    red, _, blue = panels['region 2'].unbind(1)
    assert (red > blue).equal(inputs['regions'][:, 1])
    if predict:
        found = model.predict(inputs)[:, 1].softmax(dim=1)[:, 1]
        red, _, blue = panels['found 2'].unbind(1)
        # (0.85 - 0.15) p - (0.6 - 0.13) (1 - p), of which 0.65 is shown
        shown = (red - blue) / 0.65
        torch.testing.assert_close(shown, 0.7 * found - 0.47 * (1 - found))


def test_conmim_panels():
    config = dict(
        type='ConMIM',
        backbone=dict(type='FusedBEiTPretrainViT', arch=ARCH, img_size=32, patch_size=8),
        neck=dict(type='NonLinearNeck', in_channels=16, hid_channels=16, out_channels=8),
        masking=dict(type='RatioMasking', ratio=0.5),
    )
    model = MODELS.build(config).eval()
    inputs = images(model)
    torch.manual_seed(1)
    mask = model.masking(2, (4, 4), torch.device('cpu'))
    torch.manual_seed(1)
    panels = view_panels(model, inputs, False)
    assert list(panels) == ['image', 'masked', 'momentum']
    denormalize = model.data_preprocessor.denormalize
    assert panels['image'].equal(denormalize(inputs['images']))
    assert panels['momentum'].equal(denormalize(inputs['momentum_images']))
    hidden = mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    masked, image = (panels[k].permute(0, 2, 3, 1) for k in ('masked', 'image'))
    assert (masked[hidden] == 0.5).all() and masked[~hidden].equal(image[~hidden])


@pytest.mark.parametrize(
    'config, fraction', [(beit, 6 / 16), (simmim, 0.75), (mae, 0.75)]
)
def test_masked_images_of_baselines(config, fraction):
    model = MODELS.build(config()).eval()
    tokenized = config is beit
    data = images(model)
    panels = view_panels(model, data, False)
    assert list(panels) == ['image', 'masked', *(['tokens'] if tokenized else [])]
    image, masked = panels['image'], panels['masked']
    assert image.equal(model.data_preprocessor.denormalize(data['images']))
    hidden = (masked != image).any(dim=1)
    assert (masked.permute(0, 2, 3, 1)[hidden] == 0.5).all()
    # BEiT's blocks may mask fewer patches than the target.
    assert hidden.float().mean() == pytest.approx(fraction, abs=0.2 if tokenized else 0)
    if tokenized:
        tokens = model.tokenizer.encode(data['tokenizer_images'])
        assert panels['tokens'][:, 0, ::8, ::8].equal(model.tokenizer.levels[tokens])


def test_mocov3_crops():
    model = MODELS.build(mocov3()).eval()
    crops = list(torch.randint(256, (2, 2, 3, 32, 32), dtype=torch.uint8))
    data = model.data_preprocessor(dict(inputs=crops), training=True)['inputs']
    panels = view_panels(model, data, False)
    assert list(panels) == ['image', 'second']
    for name, key in zip(panels, ('images', 'second_crops'), strict=True):
        assert panels[name].equal(model.data_preprocessor.denormalize(data[key]))


@pytest.fixture
def tool():
    return lambda argv: mmcim_cli.run(mmcim_cli.parse(['show', *argv]))


def test_tool_draws_digits(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(REPO / 'configs/quickstart/corrim.py')
    tool([config, '--out', 'views.png', '--num', '2'])
    image = np.asarray(Image.open('views.png'))
    # 24 px enlarged 4 times: a context, six exemplars and their regions.
    assert image.shape == (18 + 2 * 100 + 4, 13 * 100 + 4, 3)
    region = image[22 : 22 + 96, 2 * 100 + 4 :][:, :96].astype(int)
    red = (region[..., 0] > region[..., 2]).mean()
    assert 0.02 < red < 0.6


def test_tool_is_repeatable(tool, tmp_path, monkeypatch):
    """Including the draws of the pipeline, which uses NumPy."""
    monkeypatch.chdir(tmp_path)
    config = str(REPO / 'configs/quickstart/conmim.py')
    for name in ('a.png', 'b.png'):
        tool([config, '--out', name, '--num', '2', '--seed', '3'])
    assert (tmp_path / 'a.png').read_bytes() == (tmp_path / 'b.png').read_bytes()


def test_unsupported_models_raise(tool):
    with pytest.raises(ConfigError, match='got ImageClassifier'):
        tool([str(REPO / 'configs/quickstart/finetune.py')])
    with pytest.raises(ConfigError, match='without a tokenizer'):
        tool([str(REPO / 'configs/cim/ablations/vit-b_input-masked.py')])


def test_checkpoint_of_another_model_raises(tool, tmp_path):
    torch.save(dict(state_dict=dict(x=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='other.pth is not of the ConMIM'):
        tool([str(REPO / 'configs/quickstart/conmim.py'), str(tmp_path / 'other.pth')])

# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
from PIL import Image

import mmcim_cli
from mmcim.utils import ConfigError

from ..conftest import REPO


@pytest.fixture
def tool():
    return lambda argv: mmcim_cli.run(mmcim_cli.parse(['show', *argv]))


def test_tool_draws_digits(tool, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = str(REPO / 'configs/quickstart/corrim.py')
    tool([config, '--out', 'views.png', '--num', '2'])
    image = np.asarray(Image.open('views.png'))
    # 24 px enlarged 4 times: a context, and crop, region and prediction of 3 exemplars.
    top, bottom = 3 * 16, 2 * 16  # title and headings, legend
    assert image.shape == (top + 2 * 100 + bottom, 10 * 100 + 4, 3)
    region = image[top + 4 :, 2 * 100 + 4 :][:96, :96].astype(int)
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
    other = ['--detector', str(REPO / 'configs/quickstart/mae.py'), 'x.pth']
    with pytest.raises(ConfigError, match='x.pth'):
        tool([str(REPO / 'configs/quickstart/conmim.py'), *other])


def test_checkpoint_of_another_model_raises(tool, tmp_path):
    torch.save(dict(state_dict=dict(x=torch.zeros(1))), tmp_path / 'other.pth')
    with pytest.raises(ConfigError, match='other.pth is not of the ConMIM'):
        tool([str(REPO / 'configs/quickstart/conmim.py'), str(tmp_path / 'other.pth')])

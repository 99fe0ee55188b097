# Copyright (c) mmcim contributors. All rights reserved.
import numpy as np
import pytest
import torch
from mmpretrain.registry import MODELS
from PIL import Image

from mmcim.visualization import cim_panels, save_grid

from ..models.selfsup.conftest import configs, inputs, revdet  # noqa: F401


def test_panels_show_the_steps(configs, inputs):  # noqa: F811
    torch.manual_seed(0)
    model = MODELS.build(configs).eval()
    detector = MODELS.build(revdet()).eval()
    batch = model.corrupt(inputs)
    model.corrupt = lambda *args: batch
    panels = cim_panels(model, inputs, detector)
    assert list(panels) == [
        'original',
        'tokenizer',
        'mask',
        'corrupted',
        'restored',
        'replaced',
        'detected',
    ]
    for name, pictures in panels.items():
        assert pictures.shape == (2, 3, 32, 32), name
        assert pictures.min() >= 0 and pictures.max() <= 1, name

    denormalize = model.data_preprocessor.denormalize
    torch.testing.assert_close(panels['corrupted'], denormalize(batch.corrupted))
    hidden = batch.mask.repeat_interleave(8, 1).repeat_interleave(8, 2)
    assert (panels['mask'].permute(0, 2, 3, 1)[hidden] == 0.5).all()
    # red over blue where the sample differs from the golden token
    replaced = batch.mixed != batch.golden
    red, _, blue = panels['replaced'].unbind(1)
    cells = (red - blue)[:, 4::8, 4::8]
    assert (cells > 0).equal(replaced)


def test_revdet_shows_its_own_detection(configs, inputs):  # noqa: F811
    model = MODELS.build({**configs, 'enhancer': revdet()}).eval()
    assert list(cim_panels(model, inputs))[-2:] == ['replaced', 'detected']


def test_grid_has_a_column_per_name(tmp_path):
    panels = {'black': torch.zeros(3, 3, 8, 8), 'white': torch.ones(3, 3, 8, 8)}
    path = tmp_path / 'new' / 'grid.png'
    save_grid(panels, path, min_side=16)
    picture = np.asarray(Image.open(path))
    assert picture.shape == (18 + 3 * 20 + 4, 2 * 20 + 4, 3)
    assert (picture[22:34, 6:18] == 0).all() and (picture[22:34, 26:38] == 255).all()
    assert [file.name for file in path.parent.iterdir()] == ['grid.png']


def test_a_grid_that_cannot_be_written_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match='extension'):
        save_grid({'a': torch.zeros(1, 3, 8, 8)}, tmp_path / 'grid.unknown')
    assert list(tmp_path.iterdir()) == []

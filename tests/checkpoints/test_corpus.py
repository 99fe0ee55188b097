# Copyright (c) mmcim contributors. All rights reserved.
"""Every file of the corpus has the expected outcome."""

import hashlib
from functools import partial

import pytest
import torch
from timm import create_model
from torch import nn
from torchvision.models import resnet18

from mmcim.checkpoints import load_into
from mmcim.utils import ConfigError

from .conftest import build
from .corpus import BEIT, CASES, RESNET, SCALED, VIT, draw, head, rename

# Of an interpolation in float32 in another order of operations.
TOLERANCE = dict(atol=1e-5, rtol=0)


def load(module: nn.Module, path: str, prefix: str | None = None) -> int:
    """Call the loader under test, the only place that depends on it.

    Returns:
        int: How many tensors of the backbone were matched.
    """
    return load_into(module, path, prefix).total


def sha256(tensors: dict[str, torch.Tensor]) -> str:
    """Hash names, dtypes, shapes and bytes."""
    digest = hashlib.sha256()
    for name, value in sorted(tensors.items()):
        digest.update(f'{name} {value.dtype} {tuple(value.shape)}\n'.encode())
        digest.update(value.contiguous().numpy().tobytes())
    return digest.hexdigest()


def state(module: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.state_dict().items()}


@pytest.mark.parametrize('name', CASES)
def test_loading_outcome(name, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)  # where a file could import code from
    case = CASES[name](folder=tmp_path)
    torch.manual_seed(99)
    module = build(case.module)
    expected = state(module) | case.expected
    if case.error is None:
        total = load(module, str(case.path), case.prefix)
        matched = len(case.expected) + len(case.resized)
        assert total == (case.total or matched) > 0
    else:
        with pytest.raises(ConfigError) as error:
            load(module, str(case.path), case.prefix)
        message = str(error.value)
        assert case.path.name in message
        # The folder's name holds that of the case, in which a fragment may be.
        message = message.replace(str(case.path), '')
        assert [part for part in case.error if part not in message] == []
    found = state(module)
    for key, value in case.resized.items():
        torch.testing.assert_close(found.pop(key), value, **TOLERANCE)
        del expected[key]
    # All else, with new heads and index buffers, is unchanged.
    wrong = [k for k in expected if sha256({k: found[k]}) != sha256({k: expected[k]})]
    assert sha256(found) == sha256(expected), wrong
    assert not (tmp_path / 'executed').exists()


SIZES = dict(img_size=32, patch_size=8, embed_dim=32, depth=2, num_heads=4, mlp_ratio=2)
TIMM_VIT = partial(create_model, 'vit_base_patch16_224', **SIZES)
TIMM_BEIT = partial(create_model, 'beit_base_patch16_224', **SIZES, global_pool='token')


@pytest.mark.parametrize(
    ('config', 'reference', 'last'),
    [
        (VIT, TIMM_VIT, 'head'),
        (SCALED, partial(TIMM_VIT, init_values=0.1), 'head'),
        (BEIT, TIMM_BEIT, 'head'),
        (RESNET, resnet18, 'fc'),
    ],
    ids=['vit', 'layer_scale', 'beit', 'resnet'],
)
def test_fixture_names_match_libraries(config, reference, last):
    with torch.device('meta'):
        theirs = reference().state_dict()
    assert (rename(draw(config)) | head(last)).keys() == theirs.keys()

# Copyright (c) mmcim contributors. All rights reserved.
"""Exported backbones reproduce their stored features."""

import pytest

from .features import BACKBONES, measure
from .store import FEATURES, read

STORED = read(FEATURES)


def test_every_backbone_is_stored():
    assert sorted(STORED) == sorted(BACKBONES)


@pytest.mark.parametrize('name', BACKBONES)
def test_features(name, tmp_path):
    found, stored = measure(name, tmp_path), STORED[name]
    assert found.keys() == stored.keys()
    for size, numbers in found.items():
        expected = stored[size]
        assert numbers['shape'] == expected['shape']
        # Features near zero are no more accurate than the others.
        close = dict(rel=1e-4, abs=1e-4 * expected['std'])
        for key in ('mean', 'std', 'entries'):
            assert numbers[key] == pytest.approx(expected[key], **close), (size, key)

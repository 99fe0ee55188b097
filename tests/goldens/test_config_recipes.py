# Copyright (c) mmcim contributors. All rights reserved.
"""Every config resolves to its stored recipe."""

import pytest

from . import recipes
from .store import RECIPES, differences, read

STORED = read(RECIPES)


@pytest.fixture(scope='module', autouse=True)
def bases_read_once():
    with recipes.bases_read_once():
        yield


def test_every_config_is_stored():
    assert sorted(STORED['configs']) == recipes.NAMES


def test_all_parts_are_used():
    used = {v for recipe in STORED['configs'].values() for v in map(str, recipe.values())}
    assert STORED['parts'].keys() <= used


@pytest.mark.parametrize('name', STORED['configs'])
def test_recipe(name):
    found, stored = recipes.measure(name), recipes.expanded(STORED, name)
    assert not differences(found, stored, rel=1e-5, small=1e-12)

# Copyright (c) mmcim contributors. All rights reserved.
import pytest

from mmcim.utils import building, explain_build_errors


@pytest.fixture(autouse=True)
def keys_are_checked(monkeypatch):
    """Check the keys of all that is built, as a runner does; a warning is an error."""
    monkeypatch.setattr(building, '_warn', pytest.fail)
    with explain_build_errors({}):
        yield

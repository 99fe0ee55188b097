# Copyright (c) mmcim contributors. All rights reserved.
import os
from pathlib import Path

import pytest


@pytest.fixture
def events(monkeypatch):
    """Files that appear and disappear, in order."""
    happened = []
    replace, unlink = os.replace, Path.unlink

    def note_replace(source, target):
        replace(source, target)
        happened.append(f'+{Path(target).name}')

    def note_unlink(path, **kwargs):
        if path.exists() and path.suffix in ('.pth', '.safetensors'):
            happened.append(f'-{path.name}')
        unlink(path, **kwargs)

    monkeypatch.setattr(os, 'replace', note_replace)
    monkeypatch.setattr(Path, 'unlink', note_unlink)
    return happened

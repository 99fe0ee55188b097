# Copyright (c) mmcim contributors. All rights reserved.
import sys
from pathlib import Path

import pytest

from .toy_run import CONFIG, REPO, TOOLS, Toy, make_images, run_tool


@pytest.fixture(scope='session')
def toy(tmp_path_factory) -> Toy:
    folder = tmp_path_factory.mktemp('toy')
    make_images(folder / 'data')
    config = folder / 'toy.py'
    base = str(REPO / 'configs/_base_/default_runtime.py')
    config.write_text(CONFIG.format(base=base, root=str(folder / 'data')))
    return Toy(folder, config)


@pytest.fixture(scope='session')
def trained(toy) -> Path:
    """The work directory of a complete run."""
    work_dir = toy.folder / 'trained'
    result = run_tool(
        sys.executable,
        TOOLS / 'train.py',
        toy.config,
        '--work-dir',
        work_dir,
        cwd=toy.folder,
    )
    assert result.code == 0, result.output
    (work_dir / 'output.txt').write_text(result.output)
    return work_dir

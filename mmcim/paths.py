# Copyright (c) mmcim contributors. All rights reserved.
"""Where the configs are, and how one is written."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # a list of configs needs nothing of mmengine
    from mmengine.config import Config


def configs_dir() -> Path:
    """The folder of the configs: in an installed package, or in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / '.mim/configs'
    return installed if installed.is_dir() else package.parent / 'configs'


def write_config(cfg: 'Config', path: Path, work_dir: Path, comment: str = '') -> None:
    """Write a config that no longer inherits, in folders that need not exist.

    Args:
        cfg: The complete config. The name of its experiment is set to the path: of two
            runs that begin within a second each needs its own.
        path: Of the file.
        work_dir: Of the run.
        comment: Lines to begin with.
    """
    cfg.work_dir = str(work_dir)
    cfg.__dict__['_format_python_code'] = False  # yapf would take a second
    cfg.experiment_name = '_'.join(path.with_suffix('').parts[-3:])
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(comment + cfg.pretty_text, encoding='utf-8')

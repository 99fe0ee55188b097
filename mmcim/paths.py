# Copyright (c) mmcim contributors. All rights reserved.
"""Where the configs are."""

from pathlib import Path


def configs_dir() -> Path:
    """The folder of the configs: in an installed package, or in a clone."""
    package = Path(__file__).resolve().parent
    installed = package / '.mim/configs'
    return installed if installed.is_dir() else package.parent / 'configs'

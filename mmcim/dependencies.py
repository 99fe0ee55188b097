# Copyright (c) mmcim contributors. All rights reserved.
"""A check of the installation, before anything of it is imported.

The OpenMMLab packages exist in two families that own the same import names: the
upstream one (``mmengine``, ...) and the maintained OneDL forks (``onedl-mmengine``,
...). pip lets them overwrite each other, and the errors that follow name neither.
"""

from importlib import metadata

OPENMMLAB = ('mmengine', 'mmcv', 'mmpretrain', 'mmsegmentation')
# Everything of the upstream family that owns an import name of the above.
UPSTREAM = (*OPENMMLAB, 'mmengine-lite', 'mmcv-lite', 'mmcv-full')


def _installed(*names: str) -> dict[str, str]:
    """Versions of those distributions that are installed."""
    return {d.name: d.version for d in metadata.distributions() if d.name in names}


def check_dependencies() -> None:
    """Check that no upstream OpenMMLab package is installed.

    Raises:
        ImportError: Naming the packages that were found, and the commands that fix it.
    """
    upstream = _installed(*UPSTREAM)
    if not upstream:
        return
    onedl = _installed(*(f'onedl-{name}' for name in OPENMMLAB))
    found = ', '.join(f'{name} {version}' for name, version in upstream.items())
    beside = ', '.join(f'{name} {version}' for name, version in onedl.items())
    # Both go, because pip installs no file again of a package that it deems installed.
    raise ImportError(
        f'mmcim needs the OneDL forks of the OpenMMLab packages, but {found} of the '
        f'upstream family was found{f" beside {beside}" if beside else ""}. Both own the '
        'same import names and overwrite each other. Fix with, in the folder of mmcim:\n'
        f'  pip uninstall -y {" ".join([*upstream, *onedl])} && '
        'pip install -c constraints.txt -e .'
    )

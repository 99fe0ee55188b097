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


def check_dependencies() -> None:
    """Check that no upstream OpenMMLab package is installed.

    Raises:
        ImportError: Naming the packages that were found, and the commands that fix it.
    """
    found = {d.name: d.version for d in metadata.distributions() if d.name in UPSTREAM}
    if not found:
        return
    versions = ', '.join(f'{name} {version}' for name, version in found.items())
    # Both go, because pip installs no file again of a package that it deems installed.
    both = [*found, *(f'onedl-{name}' for name in OPENMMLAB)]
    raise ImportError(
        f'mmcim needs the OneDL forks of the OpenMMLab packages, but {versions} of the '
        'upstream family was found. Both own the same import names and overwrite each '
        'other. Fix with, in the folder of mmcim:\n'
        f'  pip uninstall -y {" ".join(both)} && pip install -c constraints.txt -e .'
    )

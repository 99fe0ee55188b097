# Copyright (c) mmcim contributors. All rights reserved.
"""The installation is checked and completed before anything of it is imported.

The OpenMMLab packages exist in two families that own the same import names: the
upstream one (``mmengine``, ...) and the maintained OneDL forks (``onedl-mmengine``,
...). pip lets them overwrite each other, and the errors that follow name neither.
"""

from importlib import metadata, util

OPENMMLAB = ('mmengine', 'mmcv', 'mmpretrain', 'mmsegmentation')
# With the dependencies that pip would choose there would be a second cv2, and numba.
INSTALL_MMDET = (
    'pip install -c constraints.txt --no-deps onedl-mmdetection imaug pycocotools '
    'shapely terminaltables six scikit-image imageio lazy-loader tifffile'
)
# Everything of the upstream family that owns an import name of the above.
UPSTREAM = (*OPENMMLAB, 'mmdet', 'mmengine-lite', 'mmcv-lite', 'mmcv-full')


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


def complete_mmdet() -> None:
    """Give mmdetection operators, if it is there and mmcv has no compiled ones.

    It has to be done before mmpretrain and mmsegmentation are imported, as both import
    parts of mmdetection; see :mod:`mmcim.mmcv_ops`.
    """
    if util.find_spec('mmdet') and not util.find_spec('mmcv._ext'):
        from .mmcv_ops import replace_compiled

        replace_compiled()


def leave_out_multimodal() -> None:
    """Import mmpretrain without BLIP and the like where transformers is too new for it.

    mmpretrain imports them where pycocotools and any transformers are installed; with
    transformers 5 the import fails.
    """
    from mmpretrain.utils import dependency  # imports no models yet

    if dependency.WITH_MULTIMODAL:
        major = int(metadata.version('transformers').split('.')[0])
        dependency.WITH_MULTIMODAL = major < 5

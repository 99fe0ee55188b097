# Copyright (c) mmcim contributors. All rights reserved.
"""A look at what is installed, before anything of it is imported.

The OpenMMLab packages exist in two families that own the same import names: the
upstream one (``mmengine``, ...) and the maintained OneDL forks (``onedl-mmengine``,
...). pip lets them overwrite each other, and what then fails, fails far away.
"""

from importlib import metadata

try:
    from packaging.requirements import Requirement
    from packaging.version import Version
except ModuleNotFoundError as error:
    raise ImportError(
        'mmcim cannot be imported: packaging is not installed. Mend it by:\n'
        "  pip install 'packaging'"
    ) from error

OPENMMLAB = {
    'mmengine': '0.10.12',
    'mmcv': '2.3.6',
    'mmpretrain': '1.3.6',
}
OPENMMLAB_OPTIONAL = {'mmsegmentation': '1.4.2'}
# Everything of the upstream family that owns an import name of the above.
UPSTREAM = (*OPENMMLAB, *OPENMMLAB_OPTIONAL, 'mmengine-lite', 'mmcv-lite', 'mmcv-full')
OTHERS = {
    'torch': '2.6',
    'torchvision': '0.21',
    'timm': '1.0.15',
    'safetensors': '0.4',
    'scikit-learn': '1.4',
    'numpy': '1.26',
    'pillow': '10',
}


def _version(distribution: str) -> Version | None:
    try:
        return Version(metadata.version(distribution))
    except metadata.PackageNotFoundError:
        return None


def _problem(name: str, minimum: str) -> str | None:
    found = _version(name)
    if found is None:
        return f'{name}>={minimum} is not installed'
    if found < Version(minimum):
        return f'{name}>={minimum} is needed, but version {found} was found'
    return None


def _install(*requirements: str) -> str:
    return 'pip install ' + ' '.join(f"'{item}'" for item in requirements)


def _torch_pair_problem() -> str | None:
    """Tell whether torchvision was built for another torch than the one there is."""
    torch, torchvision = _version('torch'), _version('torchvision')
    # The CPU build of torch with a CUDA build of torchvision lacks its operators.
    if (torch.local == 'cpu') != (torchvision.local == 'cpu'):
        return f'torch {torch} and torchvision {torchvision} are of different builds'
    for line in metadata.requires('torchvision') or []:
        wanted = Requirement(line)
        if wanted.name == 'torch' and not wanted.specifier.contains(
            torch.public, prereleases=True
        ):
            return (
                f'torchvision {_version("torchvision")} was built for '
                f'torch{wanted.specifier}, but torch {torch} was found'
            )
    return None


def check_dependencies() -> None:
    """Check that everything mmcim imports is there, new enough and of one family.

    Raises:
        ImportError: Saying what is wrong, which versions were found, and the one command
            that mends it.
    """
    optional = {n: v for n, v in OPENMMLAB_OPTIONAL.items() if _version(f'onedl-{n}')}
    upstream = [f'{name} {_version(name)}' for name in UPSTREAM if _version(name)]
    onedl = [
        f'onedl-{name} {_version(f"onedl-{name}")}'
        for name in (*OPENMMLAB, *OPENMMLAB_OPTIONAL)
        if _version(f'onedl-{name}')
    ]
    openmmlab = {f'onedl-{n}': v for n, v in {**OPENMMLAB, **optional}.items()}
    wanted = [f'{name}>={minimum}' for name, minimum in openmmlab.items()]
    if upstream:
        beside = f' beside {", ".join(onedl)}' if onedl else ''
        names = ' '.join(item.split()[0] for item in upstream)
        raise ImportError(
            f'mmcim needs the OneDL family of the OpenMMLab packages, but '
            f'{", ".join(upstream)} of the upstream family was found{beside}. Both own '
            'the same import names and overwrite each other. Mend it by:\n'
            f'  pip uninstall -y {names} && '
            f'{_install(*wanted).replace("install", "install --force-reinstall", 1)}'
        )
    wrong = {}
    for name, minimum in {**OTHERS, **openmmlab}.items():
        problem = _problem(name, minimum)
        if problem:
            wrong[f'{name}>={minimum}'] = problem
    if wrong:
        raise ImportError(
            f'mmcim cannot be imported: {"; ".join(wrong.values())}. Mend it by:\n'
            f'  {_install(*wrong)}'
        )
    problem = _torch_pair_problem()
    if problem:
        pair = _install('torch', 'torchvision')
        raise ImportError(
            f'mmcim cannot be imported: {problem}; both must come from one build. Mend '
            f'it by:\n  {pair.replace("install", "install --force-reinstall", 1)}'
        )

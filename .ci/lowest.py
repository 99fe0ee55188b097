"""Print the lowest versions that pyproject.toml allows, as constraints for pip."""

import re
from pathlib import Path

import tomllib

PROJECT = tomllib.loads(Path(__file__).parents[1].joinpath('pyproject.toml').read_text())
REQUIREMENTS = [
    *PROJECT['project']['dependencies'],
    *sum(PROJECT['project']['optional-dependencies'].values(), []),
]
for requirement in REQUIREMENTS:
    if found := re.match(r'([\w-]+)>=([\d.]+)', requirement):
        print('=='.join(found.groups()))

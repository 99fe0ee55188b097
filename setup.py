# Copyright (c) mmcim contributors. All rights reserved.
"""What pyproject.toml cannot say: ``mmcim/.mim``, where ``mmcim::`` configs are found."""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithConfigs(build_py):
    """Links in the clone for an editable installation, files in a wheel."""

    def run(self):
        """Build the modules, and ``.mim`` beside them."""
        super().run()
        root = Path('mmcim' if self.editable_mode else f'{self.build_lib}/mmcim')
        shutil.rmtree(root / '.mim', ignore_errors=True)
        (root / '.mim').mkdir(parents=True)
        compiled = shutil.ignore_patterns('__pycache__')
        for name in ('configs', 'tools', 'model-index.yml'):
            target = root / '.mim' / name
            if self.editable_mode:
                target.symlink_to(f'../../{name}')
            elif Path(name).is_dir():
                shutil.copytree(name, target, ignore=compiled)
            else:
                shutil.copy(name, target)


setup(cmdclass={'build_py': BuildWithConfigs})

# Copyright (c) mmcim contributors. All rights reserved.
"""A hook of mkdocs: README.md is the home page of docs/ as a website."""

from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the README, with links that begin where the other pages are."""
    readme = Path(config.config_file_path).with_name('README.md')
    text = readme.read_text(encoding='utf-8').replace('](docs/', '](')
    files.append(File.generated(config, 'index.md', content=text))

# Copyright (c) mmcim contributors. All rights reserved.
"""List the configs that come with mmcim, or those that match all of some words.

The numbers are those of the papers; nobody has reproduced them with this code.

Example: mmcim configs vit-b finetune
"""

import argparse
import sys
from pathlib import Path

import yaml
from rich.console import Console
from rich.table import Table

from ..paths import configs_dir


def run(args: argparse.Namespace) -> None:
    """Print a table.

    Args:
        args: The command line.

    Raises:
        SystemExit: With code 1 if there is none.
    """
    folder = configs_dir()
    rows = read_metafiles(folder)
    for word in args.words:
        rows = [row for row in rows if word.lower() in ' '.join(row).lower()]
    if not rows:
        text = ' '.join(args.words)
        sys.exit(f'error: no config has {text!r}; `mmcim configs` lists all')
    table = Table('config', 'what it is', 'paper', box=None, pad_edge=False)
    for row in rows:
        table.add_row(*row)
    # In a pipe a row is one line.
    Console(width=None if Console().is_terminal else 250).print(table)
    print(f'\n{len(rows)} configs in {folder.resolve()}')


def read_metafiles(folder: Path) -> list[tuple[str, str, str]]:
    """Read path below the folder, description and the paper's number of all models."""
    rows = []
    for file in sorted(folder.rglob('metafile*.yml')):
        for model in yaml.safe_load(file.read_text(encoding='utf-8'))['Models']:
            facts = model.get('Metadata') or {}
            path = model['Config'].removeprefix('configs/')
            text = facts.get('Description') or model['Name']
            rows.append((path, str(text), str(facts.get('Paper') or '')))
    return rows

# Copyright (c) mmcim contributors. All rights reserved.
"""README and docs as data: their text, and the blocks that tests run."""

import re
from pathlib import Path
from typing import NamedTuple

REPO = Path(__file__).resolve().parents[1]
DOCUMENTS = [
    REPO / 'README.md', REPO / 'CONTRIBUTING.md', *sorted((REPO / 'docs').rglob('*.md')),
]  # fmt: skip
_RUNNABLE = re.compile(
    r'^ *<!-- runnable(?:: (?P<argument>.+?))? -->\n+ *```(?P<language>\w+)\n'
    r'(?P<code>.*?)^ *```$',
    re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A block of code below a comment, which readers of the page do not see.

    ``<!-- runnable -->`` runs it as it is. With an argument, as in
    ``<!-- runnable: --steps 1 -->``, commands are run with it at their ends, and Python
    is a config of that path.
    """

    document: str
    language: str
    code: str
    argument: str


def runnable_blocks() -> list[Block]:
    """The blocks of all documents that are marked."""
    return [
        Block(path.name, found['language'], found['code'], found['argument'] or '')
        for path in DOCUMENTS
        for found in _RUNNABLE.finditer(path.read_text())
    ]

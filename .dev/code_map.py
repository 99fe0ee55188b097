# Copyright (c) mmcim contributors. All rights reserved.
"""Write the table of modules into docs/code.md: ``python .dev/code_map.py``.

The first sentence of each module's docstring, and its number of lines.
"""

import ast
from pathlib import Path

REPO = Path(__file__).resolve().parents[1]
PAGE = REPO / 'docs/code.md'
BEGIN, END = '<!-- modules -->\n', '<!-- end of modules -->\n'


def modules() -> dict[str, tuple[str, int]]:
    """Path of each module below the repository -> its first sentence and its lines."""
    found = {}
    paths = [*REPO.glob('mmcim_cli*.py'), *REPO.glob('mmcim/**/*.py')]
    for path in sorted(paths, key=lambda path: (path.parent, path.name)):
        text = path.read_text(encoding='utf-8')
        if path.name not in ('__init__.py', 'version.py'):
            docstring = ast.get_docstring(ast.parse(text)) or ''
            lines = text.count('\n')
            found[path.relative_to(REPO).as_posix()] = docstring.split('\n')[0], lines
    return found


def table() -> str:
    """The table in Markdown, a section per folder."""
    lines, folder = [], None
    for path, (sentence, count) in modules().items():
        if path.rpartition('/')[0] != folder:
            folder = path.rpartition('/')[0]
            lines += ['', f'| **{folder or "command"}** | | lines |', '|---|---|--:|']
        sentence = sentence.replace('``', '`').rstrip('.')
        lines.append(f'| [{Path(path).name}](../{path}) | {sentence} | {count} |')
    return '\n'.join(lines[1:]) + '\n'


if __name__ == '__main__':
    before, _, rest = PAGE.read_text(encoding='utf-8').partition(BEGIN)
    after = rest.partition(END)[2]
    PAGE.write_text(f'{before}{BEGIN}\n{table()}\n{END}{after}', encoding='utf-8')

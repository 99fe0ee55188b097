# Copyright (c) mmcim contributors. All rights reserved.
"""Write one HTML page about runs: settings, curves, images, results and events.

It opens from disk, without a network, and is made as well of a run that still trains or
has crashed. Of a folder with several runs below it, all are on the page.

Example: mmcim report work_dirs/quickstart --out report.html
"""

import argparse
from importlib.util import find_spec

from ..reports.runs import find_runs, read_run
from ..utils.errors import ConfigError
from ..utils.files import atomic_write


def run(args: argparse.Namespace) -> None:
    """Write the page.

    Args:
        args: The command line.

    Raises:
        ConfigError: If there is no run, Bokeh is not installed, or the page cannot be
            written.
    """
    if not find_spec('bokeh'):
        raise ConfigError('curves need Bokeh: pip install "mmcim[report]"')
    from ..reports.page import render_page

    runs = [read_run(name, path) for name, path in find_runs(args.work_dirs).items()]
    page = render_page(runs).encode('utf-8', 'replace')
    with atomic_write(args.out) as file:
        file.write(page)
    print(f'wrote {args.out}: {len(runs)} run(s), {len(page) / 1e6:.1f} MB')

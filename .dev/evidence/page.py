#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Write docs/results.md and its plot from results.jsonl, runs.yaml and page.md.

python .dev/evidence/page.py
"""

import json
import re
from collections import defaultdict
from pathlib import Path
from statistics import mean, stdev

import yaml
from matplotlib.figure import Figure

HERE = Path(__file__).resolve().parent
DOCS = HERE.parents[1] / 'docs'
TASKS = dict(
    probe_10='probe, 10 %',
    probe_100='probe, 100 %',
    finetune_10='fine-tuned, 10 %',
    camvid='CamVid, mIoU',
)


def results() -> dict[str, dict[str, list[dict]]]:
    """Run -> task -> lines, in the order of runs.yaml; what has been evaluated."""
    plan = yaml.safe_load((HERE / 'runs.yaml').read_text())
    found: dict = {name: defaultdict(list) for name in plan['runs']}
    for text in (HERE / 'results.jsonl').read_text().splitlines():
        line = json.loads(text)
        if line['run'] in found:
            found[line['run']][line['task']].append(line)
    return {name: tasks for name, tasks in found.items() if {*tasks} - {'pretrain'}}


def cell(lines: list[dict]) -> str:
    """Mean, and standard deviation of the seeds, of a task."""
    values = [line['value'] for line in lines]
    if not values:
        return '-'
    spread = f' ± {stdev(values):.1f}' if len(values) > 1 else ''
    return f'{mean(values):.1f}{spread}'


def gain(found: dict[str, list[dict]], base: dict[str, list[dict]], task: str) -> str:
    """Say how far a row is above random weights, in pooled deviations of the seeds."""
    ours, theirs = ([x['value'] for x in f[task]] for f in (found, base))
    if len(ours) < 2 or len(theirs) < 2:
        return '-'
    pooled = ((stdev(ours) ** 2 + stdev(theirs) ** 2) / 2) ** 0.5
    return f'{(mean(ours) - mean(theirs)) / pooled:+.1f}' if pooled else '-'


def table(found: dict[str, dict[str, list[dict]]]) -> str:
    """All rows in Markdown."""
    head = ['run', 'iterations', *TASKS.values(), 'gain, probe', 'gain, fine-tuned']
    lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
    for name, tasks in found.items():
        iters = tasks['pretrain'][0]['max_iters'] if tasks['pretrain'] else '-'
        cells = [name, str(iters), *(cell(tasks[task]) for task in TASKS)]
        base = 'resnet18_random' if name.startswith('resnet18') else 'random'
        for task in ('probe_10', 'finetune_10'):
            same = name == base or base not in found
            cells.append('' if same else gain(tasks, found[base], task))
        lines.append(f'| {" | ".join(cells)} |')
    return '\n'.join(lines)


def plot(found: dict[str, dict[str, list[dict]]], path: Path) -> None:
    """Draw a bar per run and task, with the values of the seeds."""
    figure = Figure(figsize=(9, 0.35 * len(found) + 1), layout='constrained')
    axes = figure.subplots(1, len(TASKS), sharey=True)
    for axis, (task, title) in zip(axes, TASKS.items()):
        for y, tasks in enumerate(found.values()):
            values = [line['value'] for line in tasks[task]]
            if values:
                axis.barh(y, mean(values), color='C0', alpha=0.5)
                axis.plot(values, [y] * len(values), 'k.', markersize=3)
        axis.set_title(title, fontsize=9)
        axis.set_yticks(range(len(found)), list(found))
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Write the page."""
    found = results()
    lines = [x for tasks in found.values() for runs in tasks.values() for x in runs]
    machines = sorted(
        {f'{x["machine"]}, {x["device"]}, torch {x["torch"]}' for x in lines}
    )
    plot(found, DOCS / 'images/results.png')
    text = (HERE / 'page.md').read_text()
    # {run/task} is what the table has of it.
    text = re.sub(r'{([\w-]+)/(\w+)}', lambda m: cell(found[m[1]][m[2]]), text)
    values = dict(table=table(found), machines='; '.join(machines), lines=str(len(lines)))
    for name, value in values.items():
        text = text.replace(f'{{{name}}}', value)
    (DOCS / 'results.md').write_text(text)


if __name__ == '__main__':
    main()

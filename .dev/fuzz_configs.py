#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Train with configs that are wrong in one place, and see how it is reported.

    python .dev/fuzz_configs.py --count 200

Misspelt and extra keys, wrong types, wrong and missing names, absurd numbers and keys of
mmcls 0.x, in a toy classifier with validation and in the quickstart's CIM. Exits with 1
if more than 5 % end in a bare traceback, or if anything that nothing reads is ignored
without a word.
"""

import argparse
import copy
import os
import random
import resource
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

REPO = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPO))

import mmengine.runner.runner  # noqa: E402
import mmpretrain.datasets  # noqa: E402, F401
import torch  # noqa: E402
from mmengine.config import Config  # noqa: E402
from mmpretrain.registry import MODELS  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

import mmcim.cli.train  # noqa: E402, F401
import mmcim_cli  # noqa: E402
from mmcim.utils.building import TOP_LEVEL  # noqa: E402
from tests.cli.toy_run import CONFIG, make_images  # noqa: E402

SECONDS = 60  # of a run that hangs
MEMORY = 16 << 30  # bytes of addresses
OLD_KEYS = dict(
    data=dict(samples_per_gpu=32, workers_per_gpu=2),
    lr_config=dict(policy='CosineAnnealing', min_lr=0),
    runner=dict(type='EpochBasedRunner', max_epochs=100),
    optimizer_config=dict(grad_clip=None),
    evaluation=dict(interval=1, metric='accuracy'),
    checkpoint_config=dict(interval=1),
    log_config=dict(interval=100),
    resume_from='epoch_1.pth',
    total_epochs=100,
    workflow=[('train', 1)],
    dist_params=dict(backend='nccl'),
    fp16=dict(loss_scale=512.0),
    gpu_ids=[0],
)
# What the classes in a config get from each other, or a number that starts processes.
NOT_HUGE = ('num_workers', 'prefetch_factor', 'max_epochs', 'max_iters', 'end', 'seed')


class Case(NamedTuple):
    """A config that is wrong in one place."""

    kind: str
    key: str
    value: Any
    cfg: dict


def main() -> int:
    """Run all cases; 0 if what is promised holds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--count', type=int, default=200)
    parser.add_argument('--seed', type=int, default=0)
    parser.add_argument('--verbose', action='store_true', help='print each case')
    args = parser.parse_args()
    torch.set_num_threads(1)
    mmengine.runner.runner.collect_env = dict  # the slowest part of a start
    counts: Counter = Counter()
    with tempfile.TemporaryDirectory() as folder:
        for number, case in enumerate(cases(Path(folder), args.count, args.seed)):
            start = time.monotonic()
            code, output = run(case.cfg, Path(folder), number)
            how = judge(case, code, output)
            counts[how] += 1
            if args.verbose or how in ('traceback', 'silent', 'hang'):
                *_, end = ['', *output.strip().splitlines()]
                line = next((t for t in output.splitlines() if 'error: ' in t), end)
                took = f'{time.monotonic() - start:.0f} s'
                print(f'{how:9} {case.kind}: {case.key} = {case.value!r} [{took}] {line}')
                sys.stdout.flush()
    print(', '.join(f'{how} {count}' for how, count in counts.most_common()))
    bare = counts['traceback'] + counts['hang']
    return int(bare > 0.05 * args.count or counts['silent'] > 0)


def judge(case: Case, code: int, output: str) -> str:
    """How a case was reported."""
    if code == -signal.SIGALRM:
        return 'hang'
    if 'Traceback' in output or code not in (0, 2):
        return 'traceback'
    if code == 2:
        return 'refused'
    name = case.key.split('.')[-1]
    # What VisualizationHook does not know it passes on to the visualizer, when it draws.
    if case.key.startswith('default_hooks.visualization.') and case.kind == 'extra':
        return 'passed on'
    if case.kind in ('misspelt', 'extra', 'mmcls 0.x') and name not in output:
        return 'silent'
    return 'warned' if 'warning: ' in output else 'trained'


def run(cfg: dict, folder: Path, number: int) -> tuple[int, str]:
    """Train with a config in a process of its own: its exit code and what it prints."""
    path, log = folder / f'case_{number}.py', folder / f'case_{number}.log'
    lines = (f'{key} = {value!r}' for key, value in cfg.items())
    path.write_text('\n'.join(["inf = float('inf')", *lines]))
    pid = os.fork()
    if pid == 0:
        stream = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(stream, 1), os.dup2(stream, 2)
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
        signal.alarm(SECONDS)
        code = 0
        try:
            mmcim_cli.main(['train', str(path), '--work-dir', str(folder / f'{number}')])
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else int(bool(error.code))
        sys.stdout.flush(), sys.stderr.flush()
        os._exit(code)
    status = os.waitpid(pid, 0)[1]
    return os.waitstatus_to_exitcode(status), log.read_text(errors='replace')


def cases(folder: Path, count: int, seed: int) -> Iterator[Case]:
    """Draw cases, of each kind as many."""
    draw, bases = random.Random(seed), [toy(folder), cim(folder)]
    kinds = [misspelt, extra, wrong_type, wrong_name, missing, absurd, old_key]
    for number in range(count):
        cfg = copy.deepcopy(bases[number % len(bases)])
        kind = kinds[number // len(bases) % len(kinds)]
        key, value = kind(cfg, draw)
        name = kind.__name__.replace('_', ' ').replace('old key', 'mmcls 0.x')
        yield Case(name, key, value, cfg)


def toy(folder: Path) -> dict:
    """A classifier of two classes, with validation."""
    make_images(folder / 'data')
    base = str(REPO / 'configs/_base_/default_runtime.py')
    (folder / 'toy.py').write_text(CONFIG.format(base=base, root=str(folder / 'data')))
    cfg = Config.fromfile(folder / 'toy.py').to_dict()
    cfg['train_cfg']['max_epochs'] = cfg['param_scheduler']['end'] = 1
    cfg['train_dataloader']['num_workers'] = cfg['val_dataloader']['num_workers'] = 0
    return known(cfg)


def cim(folder: Path) -> dict:
    """The quickstart's CIM with a tokenizer that knows nothing."""
    net = dict(type='DiscreteVAENet', stride=4, vocab_size=32, width=64, depth=1)
    tokenizer = folder / 'tokenizer.safetensors'
    save_file(MODELS.build(net | dict(code_dims=64)).state_dict(), tokenizer)
    cfg = Config.fromfile(REPO / 'configs/quickstart/cim_respix.py').to_dict()
    cfg['model']['tokenizer']['checkpoint'] = str(tokenizer)
    cfg['train_cfg']['max_iters'], cfg['train_dataloader']['batch_size'] = 3, 4
    cfg['param_scheduler'] = [
        dict(type='LinearLR', start_factor=0.05, by_epoch=False, begin=0, end=1),
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, begin=1, end=3),
    ]
    return known(cfg)


def known(cfg: dict) -> dict:
    """What a run reads of a config, plain."""
    return {key: cfg[key] for key in TOP_LEVEL if key in cfg and cfg[key] is not None}


def places(cfg: dict, draw: random.Random, wanted: Any = object) -> tuple[dict, str, str]:
    """Draw a key whose value is of a type: the dict it is in, the key, and its path."""
    found: list[tuple[dict, str, str]] = []

    def walk(node: Any, path: str) -> None:
        for key, value in node.items() if isinstance(node, dict) else enumerate(node):
            name = f'{path}.{key}' if path else str(key)
            is_number = not isinstance(value, bool) or wanted is object
            if isinstance(node, dict) and isinstance(value, wanted) and is_number:
                found.append((node, key, name))
            if isinstance(value, (dict, list, tuple)):
                walk(value, name)

    walk(cfg, '')
    return draw.choice(found)


def misspelt(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A letter of a key is missing, doubled or in its neighbour's place."""
    node, key, path = places(cfg, draw)
    at = draw.randrange(1, len(key) - 1) if len(key) > 2 else 0
    first, letter, rest = key[:at], key[at], key[at + 1 :]
    how = [first + rest, first + 2 * letter + rest, first + rest[:1] + letter + rest[1:]]
    name = draw.choice([other for other in how if other != key])
    node[name] = node.pop(key)
    return f'{path[: -len(key)]}{name}', node[name]


def extra(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A key that nothing has."""
    node, key, path = places(cfg, draw, str)
    while key != 'type':
        node, key, path = places(cfg, draw, str)
    name = draw.choice(['use_fancy', 'zoom', 'teacher', 'num_things', 'verbosity'])
    node[name] = 1
    return f'{path[: -len(key)]}{name}', 1


def wrong_type(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A text for a number, a number for a text, and the like."""
    node, key, path = places(cfg, draw, (int, float, str, list, dict))
    others = ['many', 3.5, [1, 2], dict(a=1), None]
    value = draw.choice([v for v in others if not isinstance(v, type(node[key]))])
    node[key] = value
    return path, value


def wrong_name(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A class that does not exist, or a file or word that is not there."""
    node, key, path = places(cfg, draw, str)
    name = node[key]
    node[key] = draw.choice([name[:-1], f'{name}V2', name.lower() + '_', 'Nothing'])
    return path, node[key]


def missing(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A key is left out."""
    node, key, path = places(cfg, draw)
    return path, f'without {node.pop(key)!r:.30}'


def absurd(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A number that cannot be meant."""
    node, key, path = places(cfg, draw, (int, float))
    values = [0, -1, -0.5, float('inf'), 10**6]
    node[key] = draw.choice(values[:3] if key in NOT_HUGE else values)
    return path, node[key]


def old_key(cfg: dict, draw: random.Random) -> tuple[str, Any]:
    """A key of mmcls 0.x."""
    key = draw.choice([*OLD_KEYS])
    cfg[key] = OLD_KEYS[key]
    return key, OLD_KEYS[key]


if __name__ == '__main__':
    sys.exit(main())

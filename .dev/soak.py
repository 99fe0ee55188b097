#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Kill trainings again and again; each has to end as if nothing had happened.

    python .dev/soak.py --kills 50

Trains a classifier, CIM and ConMIM in epochs and in iterations, with 0 and 2 workers of
the data loader, in one process and in two. All processes of a run get SIGKILL at a random
moment, or while the first one writes a file, and the run is resumed. At its end the
checkpoint is bit-identical to that of a run that nobody killed, no file is left over, and
no due validation is missing. Exits with 1 if one of them is not.
"""

import argparse
import itertools
import json
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

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
from mmcim.checkpoints import load_checkpoint  # noqa: E402
from tests.cli.toy_run import CONFIG, make_images  # noqa: E402

STEPS, PER_EPOCH, EVERY = 16, 4, 3  # iterations; checkpoints do not fall on epochs' ends
LAST = f'iter_{STEPS}.pth'


class Run(NamedTuple):
    """One training of the soak."""

    method: str
    loop: str
    workers: int
    processes: int

    def __str__(self) -> str:
        count = f'{self.workers} workers, {self.processes} processes'
        return f'{self.method}, {self.loop}, {count}'


def main() -> int:
    """Kill all runs in turn until there were enough kills; 0 if all ended well."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument('--kills', type=int, default=50, help='at least so many in all')
    parser.add_argument('--each', type=int, default=3, help='kills of each run')
    parser.add_argument('--seed', type=int, default=0)
    args = parser.parse_args()
    torch.set_num_threads(1)
    mmengine.runner.runner.collect_env = dict  # the slowest part of a start
    kinds = ('classifier', 'cim', 'conmim'), ('epochs', 'iterations'), (0, 2), (1, 2)
    runs = [Run(*parts) for parts in itertools.product(*kinds)]
    draw, kills, saves, wrong = random.Random(args.seed), 0, 0, []
    draw.shuffle(runs)
    start = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        make_images(folder / 'data')
        for number, run in enumerate(itertools.cycle(runs)):
            if kills >= args.kills:
                break
            found = soak(run, folder, args.each, random.Random(f'{args.seed} {number}'))
            kills, saves = kills + found[0], saves + found[1]
            wrong += [f'{run}: {problem}' for problem in found[2]]
            took = time.monotonic() - start
            print(f'{kills} kills in {took:.0f} s; {run}: {found[2] or "as if nothing"}')
            sys.stdout.flush()
    print(f'{kills} kills, {saves} of them while a file was written, {len(wrong)} wrong')
    print('\n'.join(wrong))
    return int(bool(wrong))


def soak(run: Run, folder: Path, each: int, draw: random.Random) -> tuple:
    """Kill a run and resume it: kills, those within a write, and what was wrong."""
    whole, work_dir = folder / f'whole_{hash(run):x}', folder / 'killed'
    config = write_config(run, folder)
    shutil.rmtree(work_dir, ignore_errors=True)
    if not whole.exists() and any(train(run, config, whole, None)):
        return 0, 0, [f'cannot train: {(folder / "0.log").read_text()[-500:]}']
    kills = saves = 0
    while kills < each:
        in_write = draw.random() < 0.5
        # Both count from the start, which is another one after each kill.
        kill = ('write', draw.randrange(1, 5)) if in_write else ('step', draw.random())
        codes = train(run, config, work_dir, kill)
        if codes[0] == -signal.SIGKILL:  # the other one may have failed for it
            kills, saves = kills + 1, saves + in_write
        elif any(codes):
            return kills, saves, [f'{codes}: {(folder / "0.log").read_text()[-500:]}']
        else:  # finished before
            shutil.rmtree(work_dir)
    if any(codes := train(run, config, work_dir, None)):
        return kills, saves, [f'{codes}: {(folder / "0.log").read_text()[-500:]}']
    return kills, saves, compare(whole, work_dir)


def train(run: Run, config: Path, work_dir: Path, kill: tuple | None) -> list[int]:
    """Train in processes of their own, which may be killed: their exit codes."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = str(free.getsockname()[1])
    pids: list[int] = []
    for rank in range(run.processes):
        pid = os.fork()
        if pid == 0:
            os.setsid()
            log = os.open(config.with_name(f'{rank}.log'), os.O_WRONLY | os.O_CREAT)
            os.ftruncate(log, 0)
            os.dup2(log, 1), os.dup2(log, 2)
            argv = ['train', str(config), '--work-dir', str(work_dir), '--resume']
            if run.processes > 1:
                address = dict(MASTER_ADDR='127.0.0.1', MASTER_PORT=port)
                ranks = dict(RANK=str(rank), LOCAL_RANK=str(rank))
                os.environ |= ranks | address | dict(WORLD_SIZE=str(run.processes))
                argv += ['--launcher', 'pytorch']
            if kill and rank == 0:
                prepare(kill)
            code = 0
            try:
                mmcim_cli.main(argv)
            except SystemExit as error:
                code = (
                    error.code if isinstance(error.code, int) else int(bool(error.code))
                )
            sys.stdout.flush(), sys.stderr.flush()
            os._exit(code)
        pids.append(pid)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pids[0], 0)[1])]
    for pid in pids[1:]:
        if codes[0] == -signal.SIGKILL:
            os.killpg(pid, signal.SIGKILL)
        codes.append(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    return codes


def prepare(kill: tuple) -> None:
    """Let this process and its workers die at a moment."""
    how, when = kill
    fsync, count = os.fsync, itertools.count(1)

    def write(fd: int) -> None:
        if next(count) == when:
            path = os.readlink(f'/proc/self/fd/{fd}')
            if os.path.isfile(path):
                os.truncate(path, os.path.getsize(path) // 2)
            os.killpg(0, signal.SIGKILL)
        fsync(fd)

    if how == 'write':
        os.fsync = write
        return
    from mmcim.engine.interruption import InterruptionHook

    step, before_train = int(when * STEPS), InterruptionHook.before_train
    seconds = when * STEPS % 1 * 0.3

    def after(self: InterruptionHook, runner: object) -> None:
        before_train(self, runner)  # type: ignore[arg-type]
        first = runner.iter  # type: ignore[attr-defined]

        def die() -> None:
            while runner.iter < min(first + step % 5, STEPS - 1):  # type: ignore[attr-defined]
                time.sleep(0.001)
            time.sleep(seconds)
            os.killpg(0, signal.SIGKILL)

        import threading

        threading.Thread(target=die, daemon=True).start()

    InterruptionHook.before_train = after  # type: ignore[method-assign]


def compare(whole: Path, killed: Path) -> list[str]:
    """What differs between two runs."""
    problems = []
    ours, theirs = (load_checkpoint(path / LAST) for path in (whole, killed))
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        if not same(ours[key], theirs[key]):
            problems.append(f'{key} differs')
    left, right = (
        {p.name for p in path.iterdir() if p.is_file()} for path in (whole, killed)
    )
    if left != right:
        problems.append(f'files differ: {sorted(left ^ right)}')
    left, right = validated(whole), validated(killed)
    if left != right:
        problems.append(f'validations at {left}, but {right} in the killed run')
    return problems


def validated(work_dir: Path) -> list[tuple[int, float]]:
    """Iteration and metric of each validation; one that was repeated counts once."""
    found = set()
    for file in work_dir.glob('*/*/scalars.json'):
        for line in file.read_text().splitlines():
            # The last line of a killed run may be half-written.
            entry = json.loads(line) if line.endswith('}') else {}
            found |= {(entry['step'], v) for k, v in entry.items() if 'top1' in k}
    return sorted(found)


def same(a: object, b: object) -> bool:
    """Compare nested containers of tensors and values bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)  # type: ignore[arg-type]
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)  # type: ignore[attr-defined, index]
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))  # type: ignore[arg-type, call-overload]
    return a == b


def write_config(run: Run, folder: Path) -> Path:
    """Write the config of a run."""
    if run.method == 'classifier':
        base = str(REPO / 'configs/_base_/default_runtime.py')
        (folder / 'toy.py').write_text(
            CONFIG.format(base=base, root=str(folder / 'data'))
        )
        cfg = Config.fromfile(folder / 'toy.py').to_dict()
    else:
        name = 'cim_respix' if run.method == 'cim' else 'conmim'
        cfg = Config.fromfile(REPO / f'configs/quickstart/{name}.py').to_dict()
    if run.method == 'cim':
        net = dict(type='DiscreteVAENet', stride=4, vocab_size=32, width=64, depth=1)
        tokenizer = folder / 'tokenizer.safetensors'
        if not tokenizer.exists():
            torch.manual_seed(0)
            weights = MODELS.build(net | dict(code_dims=64)).state_dict()
            save_file(weights, tokenizer)
        cfg['model']['tokenizer']['checkpoint'] = str(tokenizer)
    by_epoch, loader = run.loop == 'epochs', cfg['train_dataloader']
    sampler = 'DefaultSampler' if by_epoch else 'InfiniteSampler'
    loader |= dict(num_workers=run.workers, persistent_workers=run.workers > 0)
    loader |= dict(batch_size=8 // run.processes)
    loader['sampler'] = dict(type=sampler, shuffle=True)
    if run.method != 'classifier':  # an epoch of four iterations
        loader['num_batch_per_epoch'] = PER_EPOCH
    ends = dict(max_epochs=STEPS // PER_EPOCH) if by_epoch else dict(max_iters=STEPS)
    cfg['train_cfg'] = dict(by_epoch=by_epoch, **ends)
    if run.method == 'classifier':
        cfg['train_cfg']['val_interval'] = 1 if by_epoch else 5
    cfg['param_scheduler'] = [
        dict(type='CosineAnnealingLR', eta_min=1e-5, by_epoch=False, end=STEPS)
    ]
    cfg['default_hooks']['checkpoint'] |= dict(by_epoch=False, interval=EVERY)
    cfg['default_hooks']['checkpoint'] |= dict(max_keep_ckpts=2)
    path = folder / 'run.py'
    path.write_text('\n'.join(f'{key} = {value!r}' for key, value in cfg.items()))
    return path


if __name__ == '__main__':
    sys.exit(main())

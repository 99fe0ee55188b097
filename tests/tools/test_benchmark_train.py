# Copyright (c) mmcim contributors. All rights reserved.
"""The benchmark of training: a table of sane numbers, clear errors."""

import math
from argparse import Namespace

import pytest
import torch
from torch import Tensor

from tools.analysis_tools import benchmark_train

from .toy_run import REPO, run_forked

TOOL = 'analysis_tools/benchmark_train.py'
RESPIX = REPO / 'configs/quickstart/cim_respix.py'
REVDET = REPO / 'configs/quickstart/cim_revdet.py'
OTHERS = [REPO / f'configs/quickstart/{name}.py' for name in ('conmim', 'mocov3')]
VIT_S = REPO / 'configs/cim/vit-s_8xb256-300e.py'
SHORT = ['--random-tokenizer', '--steps', '2', '--warmup', '1', '--batch-size', '4']
SMALL = ['--random-tokenizer', '--steps', '1', '--warmup', '0', '--batch-size', '1']


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    cases = {
        'two configs': [TOOL, RESPIX, REVDET, *SHORT],
        'other methods': [TOOL, *OTHERS, *SHORT],
        'full-size dalle': [TOOL, VIT_S, *SMALL],
        'overflow': [
            TOOL, RESPIX, *SHORT, '--cfg-options', 'model.enhancer_weight=1e39',
        ],
        'no tokenizer': [TOOL, RESPIX, '--steps', '1'],
        'classifier': [TOOL, REPO / 'configs/quickstart/finetune.py'],
        'masks of the loader': [TOOL, VIT_S, '--cfg-options', 'model.masking=None'],
        'misspelt': [TOOL, RESPIX, '--cfg-options', 'model.generator.temprature=2'],
        'no steps': [TOOL, RESPIX, '--steps', '0'],
        'no GPU': [TOOL, RESPIX, '--sync-check'],
        'other tokenizer': [
            TOOL, VIT_S, *SMALL, '--cfg-options', 'model.tokenizer.type=VQVAETokenizer',
        ],
    }  # fmt: skip
    return run_forked(cases, tmp_path_factory.mktemp('benchmark'))


def tables(result):
    """The two tables at the end: config -> column -> cell."""
    assert result.code == 0, result.output
    speed, shares = result.output.rstrip().split('\n\n')[-2:]
    return [read(speed.splitlines()[1:]), read(shares.splitlines()[1:])]


def read(lines):
    # Columns are two spaces or more apart, headings have single spaces inside.
    rows = [[cell.strip() for cell in line.split('  ') if cell.strip()] for line in lines]
    return {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[1:]}


@pytest.mark.parametrize(
    ('case', 'names', 'batch'),
    [
        ('two configs', ['cim_respix', 'cim_revdet'], 4),
        ('other methods', ['conmim', 'mocov3'], 4),
        ('full-size dalle', ['vit-s_8xb256-300e'], 1),
    ],
)
def test_tables(runs, case, names, batch):
    speed, shares = tables(runs[case])
    assert list(speed) == list(shares) == names
    for name in names:
        row = speed[name]
        assert int(row['batch']) == batch
        rate, step = float(row['images/s']), float(row['ms/step'])
        assert step > 0
        # Both are rounded to a tenth.
        error = 0.05 * step / 1000 + 0.05 * rate / 1000 + 1e-5
        assert rate * step / 1000 == pytest.approx(batch, abs=error)
        assert math.isfinite(float(row['first loss']))
        assert row['NaN or inf'] == 'no'
        parts = {part: float(share) for part, share in shares[name].items()}
        assert sum(parts.values()) == pytest.approx(100, abs=0.5)
        assert all(0 <= share < 100 for share in parts.values())
        assert parts['backward'] > 0
        assert parts['loss' if case == 'other methods' else 'enhancer'] > 0


def test_first_loss_is_that_of_a_guess(runs):
    """About log(32) for the generator, and the variance of a normalised target."""
    speed, _ = tables(runs['two configs'])
    assert float(speed['cim_respix']['first loss']) == pytest.approx(
        math.log(32) + 0.8, abs=1.0
    )
    assert float(speed['cim_revdet']['first loss']) == pytest.approx(
        math.log(32) + math.log(2), abs=0.5
    )


def test_bad_losses_are_told(runs):
    speed, _ = tables(runs['overflow'])
    assert speed['cim_respix']['NaN or inf'] == 'YES'


BAD = {
    'no tokenizer': ['work_dirs/quickstart/tokenizer/iter_400.pth'],
    'classifier': ['finetune.py', 'no pre-training'],
    'masks of the loader': ['masks from the loader'],
    'misspelt': ['model.generator.temprature', 'temperature'],
    'no steps': ['--steps', 'at least 1'],
    'no GPU': ['--sync-check', 'GPU'],
    'other tokenizer': ['VQVAETokenizer', 'model.tokenizer.checkpoint'],
}


@pytest.mark.parametrize('name', BAD)
def test_bad_input_is_a_clear_error(runs, name):
    if name == 'no GPU' and torch.cuda.is_available():
        pytest.skip('There is one.')
    assert runs[name].code == 2, runs[name].output
    assert 'Traceback' not in runs[name].output
    for words in BAD[name]:
        assert words in runs[name].output


@pytest.mark.parametrize(
    ('name', 'parts'),
    [
        ('cim_respix', {'views', 'masks', 'auc'}),
        ('beit', {'views', 'masks'}),
        ('conmim', {'views', 'masks'}),
        ('corrim', {'views'}),
        ('mocov3', {'views'}),
    ],
)
def test_what_must_not_wait_for_the_gpu(name, parts, monkeypatch):
    """The CPU stands in for the GPU; that nothing waits only a GPU can tell."""
    path = str(REPO / f'configs/quickstart/{name}.py')
    args = Namespace(cfg_options=None, batch_size=2)
    cfg = benchmark_train.prepare(path, args)
    model = benchmark_train.build(cfg, random=True)
    mode, seen = ['default'], set()

    def spy(owner, method, part):
        call = getattr(owner, method)

        def called(*args, **kwargs):
            if mode[-1] == 'error':
                seen.add(part)
            return call(*args, **kwargs)

        monkeypatch.setattr(owner, method, called)

    monkeypatch.setattr(Tensor, 'cuda', lambda tensor: tensor)
    monkeypatch.setattr(torch.cuda, 'set_sync_debug_mode', mode.append)
    spy(model.data_preprocessor, 'forward', 'views')
    spy(benchmark_train, 'binary_auc', 'auc')
    if hasattr(model, 'masking'):
        spy(type(model.masking), '__call__', 'masks')
    batch = benchmark_train.synthetic_batch(cfg, pin=False)
    benchmark_train.check_sync(model, batch)
    assert seen == parts
    assert mode == ['default', 'error', 'default']

    def wait(*args, **kwargs):
        raise RuntimeError('called a synchronizing CUDA operation')

    monkeypatch.setattr(model.data_preprocessor, 'forward', wait)
    with pytest.raises(RuntimeError, match='synchronizing'):
        benchmark_train.check_sync(model, batch)
    assert mode[-1] == 'default'

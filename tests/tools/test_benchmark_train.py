# Copyright (c) mmcim contributors. All rights reserved.
"""The benchmark of training: tables of sane numbers, clear errors."""

import math
from argparse import Namespace

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from torch import Tensor

from mmcim.utils import ConfigError
from tools.analysis_tools import benchmark_train

from .toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

TOOL = 'analysis_tools/benchmark_train.py'
RESPIX = REPO / 'configs/quickstart/cim_respix.py'
REVDET = REPO / 'configs/quickstart/cim_revdet.py'
OTHER_NAMES = ['conmim', 'mocov3', 'mae', 'finetune']
OTHERS = [REPO / f'configs/quickstart/{name}.py' for name in OTHER_NAMES]
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
        'segmentor': [TOOL, REPO / 'configs/quickstart/segmentation.py'],
        'masks of the loader': [TOOL, VIT_S, '--cfg-options', 'model.masking=None'],
        'misspelt': [
            TOOL, RESPIX, *SHORT, '--cfg-options', 'model.generator.temprature=2',
        ],
        'no steps': [TOOL, RESPIX, '--steps', '0'],
        'no GPU': [TOOL, RESPIX, '--sync-check'],
        'other tokenizer': [
            TOOL, VIT_S, *SMALL, '--cfg-options', 'model.tokenizer.type=VQVAETokenizer',
        ],
    }  # fmt: skip
    return run_forked(cases, tmp_path_factory.mktemp('benchmark'))


def tables(result):
    """Speed, fractions and operations: config -> column -> cell."""
    assert result.code == 0, result.output
    blocks = result.output.strip().split('\n\n')[-3:]
    return [read(block.splitlines()[1:]) for block in blocks]


def read(lines):
    # Columns are two spaces or more apart, headings have single spaces inside.
    rows = [[cell.strip() for cell in line.split('  ') if cell.strip()] for line in lines]
    return {name: dict(zip(rows[0][1:], cells, strict=True)) for name, *cells in rows[1:]}


@pytest.mark.parametrize(
    ('case', 'names', 'batch'),
    [
        ('two configs', ['cim_respix', 'cim_revdet'], 4),
        ('other methods', OTHER_NAMES, 4),
        ('full-size dalle', ['vit-s_8xb256-300e'], 1),
    ],
)
def test_tables(runs, case, names, batch):
    speed, fractions, gmacs = tables(runs[case])
    assert list(speed) == list(fractions) == list(gmacs) == names
    forward = 'loss' if case == 'other methods' else 'enhancer'
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
        parts = {part: float(cell) for part, cell in fractions[name].items()}
        assert sum(parts.values()) == pytest.approx(100, abs=0.5)
        assert all(0 <= part < 100 for part in parts.values())
        assert parts['backward'] > 0 and parts[forward] > 0
        counts = {part: float(cell) for part, cell in gmacs[name].items()}
        total = counts.pop('step')
        assert total == float(row['GMAC/image']) > 0
        assert sum(counts.values()) == pytest.approx(total, abs=0.05)
        assert counts['backward'] > 0 and counts[forward] > 0


def test_operations_of_full_size_modules(runs):
    """The known sizes of OpenAI's dVAE at 112 px and of ViT-S/16 at 224 px."""
    gmacs = tables(runs['full-size dalle'])[2]['vit-s_8xb256-300e']
    found = {part: float(gmacs[part]) for part in ('encode', 'decode', 'enhancer')}
    assert found == pytest.approx(dict(encode=26.1, decode=24.6, enhancer=4.7), abs=0.1)


TOKENS, WIDTH, DEPTH, HIDDEN, PATCH = 1 + 16, 32, 3, 64, 4


class TokenLoss(BaseModel):
    """A ViT whose class token is its loss, beside one that runs without gradient."""

    def __init__(self):
        super().__init__()
        sizes = dict(embed_dims=WIDTH, num_layers=DEPTH, num_heads=2)
        sizes['feedforward_channels'] = HIDDEN
        vit = dict(type='VisionTransformer', arch=sizes, img_size=16, patch_size=PATCH)
        self.backbone, self.teacher = MODELS.build(vit), MODELS.build(vit)

    def loss(self, inputs):
        with torch.no_grad():
            target = self.teacher(inputs)[-1]
        return dict(loss=(self.backbone(inputs)[-1] - target).sum())

    def forward(self, inputs, mode):
        return self.loss(inputs)


def test_operations_are_those_counted_by_hand():
    """Of projections, attention and patches, forward and backward."""
    linear = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN)
    attention = 2 * TOKENS**2 * WIDTH
    patches = (TOKENS - 1) * 3 * PATCH**2 * WIDTH
    forward = DEPTH * (linear + attention) + patches
    model = TokenLoss()
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    watch = benchmark_train.Stopwatch(torch.device('cpu'))
    benchmark_train.watch_parts(watch, model, optim_wrapper)
    batch = dict(inputs=torch.randn(benchmark_train.COUNTED_IMAGES, 3, 16, 16))
    gmacs = benchmark_train.count_gmacs(watch, model, optim_wrapper, batch)
    counts = {part: count * 1e9 for part, count in gmacs.items() if count}
    # A product has two gradients, but images need none.
    backward = 2 * forward - patches
    expected = dict(loss=2 * forward, backward=backward, step=2 * forward + backward)
    assert counts == pytest.approx(expected)


def test_first_loss_is_that_of_a_guess(runs):
    """About log(32) for the generator, and the variance of a normalised target."""
    speed, *_ = tables(runs['two configs'])
    assert float(speed['cim_respix']['first loss']) == pytest.approx(
        math.log(32) + 0.8, abs=1.0
    )
    assert float(speed['cim_revdet']['first loss']) == pytest.approx(
        math.log(32) + math.log(2), abs=0.5
    )


def test_bad_losses_are_told(runs):
    speed, *_ = tables(runs['overflow'])
    assert speed['cim_respix']['NaN or inf'] == 'YES'


BAD = {
    'no tokenizer': ['work_dirs/quickstart/tokenizer/iter_400.pth'],
    'segmentor': ['segmentation.py', 'neither a pre-training nor a classifier'],
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
        ('cim_respix', {'preprocess', 'masks', 'auc'}),
        ('beit', {'preprocess', 'masks'}),
        ('conmim', {'preprocess', 'masks'}),
        ('corrim', {'preprocess'}),
        ('mocov3', {'preprocess'}),
    ],
)
def test_what_must_not_wait_for_the_gpu(name, parts, monkeypatch):
    """The CPU stands in for the GPU; that nothing waits only a GPU can tell."""
    path = str(REPO / f'configs/quickstart/{name}.py')
    args = Namespace(cfg_options=None, batch_size=2, sync_check=True)
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
    spy(model.data_preprocessor, 'forward', 'preprocess')
    spy(benchmark_train, 'binary_auc', 'auc')
    if hasattr(model, 'masking'):
        spy(type(model.masking), '__call__', 'masks')
    batch = benchmark_train.synthetic_batch(cfg, 2, pin=False)
    benchmark_train.check_sync(model, batch)
    assert seen == parts
    assert mode == ['default', 'error', 'default']

    def wait(*args, **kwargs):
        raise RuntimeError('called a synchronizing CUDA operation')

    monkeypatch.setattr(model.data_preprocessor, 'forward', wait)
    with pytest.raises(RuntimeError, match='synchronizing'):
        benchmark_train.check_sync(model, batch)
    assert mode[-1] == 'default'


def test_sync_check_rejects_a_classifier():
    path = str(REPO / 'configs/quickstart/finetune.py')
    args = Namespace(cfg_options=None, batch_size=2, sync_check=True)
    with pytest.raises(ConfigError, match='--sync-check is for pre-trainings'):
        benchmark_train.prepare(path, args)

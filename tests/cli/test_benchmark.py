# Copyright (c) mmcim contributors. All rights reserved.
"""The benchmark of training: tables of sane numbers, clear errors."""

import math
import re
import time

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.optim import OptimWrapper
from mmpretrain.registry import MODELS
from PIL import Image
from torch import Tensor
from torch.utils._pytree import tree_map

from mmcim.cli import benchmark, synthetic
from mmcim.evaluation import binary_auc
from mmcim.models.selfsup import CIM
from mmcim.models.tokenizers import DiscreteVAENet
from mmcim.utils import load_config

from .toy_run import REPO, run_forked

pytestmark = pytest.mark.slow

TOOL = 'analysis_tools/benchmark_train.py'
RESPIX = REPO / 'configs/quickstart/cim_respix.py'
REVDET = REPO / 'configs/quickstart/cim_revdet.py'
OTHER_NAMES = ['conmim', 'mocov3', 'mae', 'finetune']
OTHERS = [REPO / f'configs/quickstart/{name}.py' for name in OTHER_NAMES]
IMAGES = REPO / 'configs/conmim/vit-s_conmim_1xb128-300e_imagenette-128.py'
VIT_S = REPO / 'configs/cim/vit-s_8xb256-300e.py'
SHORT = ['--steps', '2', '--warmup', '1', '--batch-size', '4']
SMALL = ['--steps', '1', '--warmup', '0', '--batch-size', '1']
# Where the quickstart's configs expect their tokenizer.
TOKENIZER = 'work_dirs/quickstart/tokenizer/iter_400.pth'


UPERNET = REPO / 'configs/segmentation/vit-tiny_upernet_1xb8-400i_camvid-240x180.py'


@pytest.fixture(scope='module')
def runs(tmp_path_factory):
    folder = tmp_path_factory.mktemp('benchmark')
    path = folder / TOKENIZER
    path.parent.mkdir(parents=True)
    torch.save(DiscreteVAENet(4, 32).state_dict(), path)
    images = folder / 'images'
    images.mkdir()
    for index in range(3):
        Image.new('RGB', (50, 40)).save(images / f'{index}.jpg')
    cases = {
        'two configs': [TOOL, RESPIX, REVDET, *SHORT],
        'other methods': [TOOL, *OTHERS, *SHORT],
        'full-size dalle': [TOOL, VIT_S, *SMALL, '--against', 'stock'],
        'waits': [TOOL, OTHERS[0], '--sync-check'],
        'images': [TOOL, IMAGES, *SHORT, '--data-root', images],
        'no tokenizer': [
            TOOL, RESPIX, *SHORT, '--cfg-options', 'model.tokenizer.checkpoint=a.pth',
        ],
        'loader': [
            TOOL, VIT_S, *SHORT, '--loader', '--data-root', images, '--against', 'stock',
        ],
        'loader without images': [TOOL, VIT_S, *SHORT, '--loader'],
        'segmentor': [TOOL, UPERNET],
        'misspelt': [
            TOOL, RESPIX, *SHORT, '--cfg-options', 'model.generator.temprature=2',
        ],
        'no steps': [TOOL, RESPIX, '--steps', '0'],
    }  # fmt: skip
    return run_forked(cases, folder)


HEAD = re.compile(
    r'^(?P<name>.+?): batch (?P<batch>\d+), (?P<rate>\S+) images/s, '
    r'(?P<step>\S+) ms/step, last loss (?P<loss>\S+)$'
)


def tables(result):
    """Config -> the first line as a dict, and part -> (% of time, GMAC per image)."""
    assert result.code == 0, result.output
    found = {}
    for block in result.output.strip().split('\n\n')[1:]:
        lines = [line for line in block.splitlines() if 'WARNING' not in line]
        head = HEAD.match(lines[0]).groupdict()
        columns = '%', 'of', 'time', 'GMAC/image', '%', 'of', 'peak'
        assert lines[1].split() == ['part', *columns]
        rows = [line.split() for line in lines[2:] if len(line.split()) == 4]
        found[head['name']] = head, {part: (float(a), float(b)) for part, a, b, _ in rows}
        speed = float(re.search(r'^peak: (\S+)', result.output, re.MULTILINE)[1])
        for _, part, count, reached in rows:
            if float(count) > 1:  # all are rounded to tenths
                rate = 100 * float(head['rate']) / float(part)
                expected = 100 * rate * float(count) / speed
                assert float(reached) == pytest.approx(expected, rel=0.3)
    return found


@pytest.mark.parametrize(
    ('case', 'names', 'batch'),
    [
        ('two configs', ['cim_respix', 'cim_revdet'], 4),
        ('other methods', OTHER_NAMES, 4),
        ('full-size dalle', [VIT_S.stem, f'{VIT_S.stem} of stock parts'], 1),
    ],
)
def test_printed_tables(runs, case, names, batch):
    found = tables(runs[case])
    assert list(found) == names
    forward = 'loss' if case == 'other methods' else 'enhancer'
    for head, parts in found.values():
        assert int(head['batch']) == batch
        rate, step = float(head['rate']), float(head['step'])
        assert step > 0
        # Both are rounded to a tenth.
        error = 0.05 * step / 1000 + 0.05 * rate / 1000 + 1e-5
        assert rate * step / 1000 == pytest.approx(batch, abs=error)
        assert math.isfinite(float(head['loss']))
        time, gmacs = parts.pop('step')
        assert time == 100 and gmacs > 0
        assert sum(time for time, _ in parts.values()) == pytest.approx(100, abs=0.5)
        assert sum(gmacs for _, gmacs in parts.values()) == pytest.approx(gmacs, abs=0.05)
        assert all(0 <= time < 100 for time, _ in parts.values())
        assert min(*parts['backward'], *parts[forward]) > 0


def test_operations_of_full_size_modules(runs):
    """The known sizes of OpenAI's dVAE at 112 px and of ViT-S/16 at 224 px."""
    found = tables(runs['full-size dalle']).values()
    for (_, parts), decode in zip(found, (24.6, 29.5), strict=True):
        counts = {part: parts[part][1] for part in ('encode', 'decode', 'enhancer')}
        known = dict(encode=26.1, decode=decode, enhancer=4.7)
        assert counts == pytest.approx(known, abs=0.1)
    assert re.search(r'^\S+ times the images/s', runs['full-size dalle'].output, re.M)


def test_images_of_a_folder(runs):
    """With data from the config's loader, for which a step waits."""
    ((_, parts),) = tables(runs['images']).values()
    assert parts['data'][0] > 0
    assert sum(time for time, _ in parts.values()) == pytest.approx(200, abs=0.5)


def test_waits(runs):
    assert runs['waits'].code == 0, runs['waits'].output
    assert 'conmim: 0 waits in 3 iterations' in runs['waits'].output


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


def test_operations_match_counts_by_hand():
    """Of projections, attention and patches, forward and backward."""
    linear = TOKENS * (4 * WIDTH**2 + 2 * WIDTH * HIDDEN)
    attention = 2 * TOKENS**2 * WIDTH
    patches = (TOKENS - 1) * 3 * PATCH**2 * WIDTH
    forward = DEPTH * (linear + attention) + patches
    model = TokenLoss()
    optim_wrapper = OptimWrapper(torch.optim.SGD(model.parameters(), lr=0.1))
    watch = benchmark.Stopwatch(time.perf_counter)
    watch.watch(model, optim_wrapper)
    batch = dict(inputs=torch.randn(benchmark.COUNTED_IMAGES, 3, 16, 16))
    gmacs = benchmark.count_gmacs(watch, model, optim_wrapper, batch)
    counts = {part: count * 1e9 for part, count in gmacs.items() if count}
    # A product has two gradients, but images need none.
    backward = 2 * forward - patches
    expected = dict(loss=2 * forward, backward=backward, step=2 * forward + backward)
    assert counts == pytest.approx(expected)


def test_loss_is_near_chance_level(runs):
    """About log(32) for the generator, and the variance of a normalised target."""
    found = tables(runs['two configs'])
    loss = {name: float(head['loss']) for name, (head, _) in found.items()}
    assert loss['cim_respix'] == pytest.approx(math.log(32) + 0.8, abs=1.0)
    assert loss['cim_revdet'] == pytest.approx(math.log(32) + math.log(2), abs=1.0)


def test_loader_alone(runs):
    assert runs['loader'].code == 0, runs['loader'].output
    line = r'^vit-s_8xb256-300e(?: with stock transforms)?: batch 4, (\S+) images/s'
    ours, stock = map(float, re.findall(line, runs['loader'].output, re.MULTILINE))
    (ratio,) = re.findall(r'^(\S+) times the images/s', runs['loader'].output, re.M)
    # All are rounded.
    assert float(ratio) == pytest.approx(ours / stock, abs=0.01, rel=0.01)


BAD = {
    'loader without images': ['train_dataloader.dataset', 'data/imagenet/train is not a'],
    'no tokenizer': ['a.pth', 'configs/tokenizer'],
    'segmentor': ['EncoderDecoder', 'expected BaseSelfSupervisor or ImageClassifier'],
    'misspelt': ['model.generator.temprature', 'temperature'],
    'no steps': ['--steps', 'at least 1'],
}


@pytest.mark.parametrize('name', BAD)
def test_invalid_input_is_a_one_line_error(runs, name):
    assert runs[name].code == 2, runs[name].output
    assert 'Traceback' not in runs[name].output
    for words in BAD[name]:
        assert words in runs[name].output


@pytest.mark.gpu
@pytest.mark.parametrize('name', ['cim_respix', 'beit', 'conmim', 'corrim', 'mocov3'])
def test_preprocessor_masks_and_auc_do_not_wait_for_the_gpu(name, tmp_path):
    """MAE draws its masks within its encoder, where they are not checked."""
    path = str(REPO / f'configs/quickstart/{name}.py')
    cfg = load_config(path)
    if 'tokenizer' in cfg.model:
        cfg.model.tokenizer.checkpoint = str(tmp_path / 'tokenizer.pth')
        torch.save(DiscreteVAENet(4, 32).state_dict(), tmp_path / 'tokenizer.pth')
    model = synthetic.build(cfg).cuda()
    inputs = synthetic.synthetic_batch(cfg, 2)['inputs']
    batch = dict(inputs=tree_map(Tensor.cuda, inputs))
    torch.cuda.set_sync_debug_mode('error')
    try:
        images = model.data_preprocessor(batch, training=True)['inputs']['images']
        if isinstance(model, CIM):
            mask = model.draw_mask(images)
            binary_auc(torch.rand(mask.shape, device=mask.device), mask)
        elif getattr(model, 'masking', None):
            grid = tuple(model.backbone.patch_resolution)
            model.masking(len(images), grid, images.device)
    finally:
        torch.cuda.set_sync_debug_mode('default')

# Copyright (c) mmcim contributors. All rights reserved.
"""Images and numbers of a training; every method at the size of the quickstart."""

import json
import math
import shutil
import time

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmpretrain.registry import RUNNERS
from PIL import Image

from mmcim.engine import watch
from mmcim.engine.online_probe import OnlineProbe
from mmcim.engine.seeding import seed_generators
from mmcim.engine.watch import WatchHook

from ..conftest import REPO
from ..models.selfsup.conftest import GreyTokenizer  # noqa: F401
from ..models.selfsup.siamese_models import CONFIGS as SIAMESE

METHODS = [
    'beit',
    'cim_respix',
    'cim_revdet',
    'conmim',
    'corrim',
    'dino',
    'mae',
    'mocov3',
    'simmim',
    'tokenizer',
    *(f'resnet_{name}' for name in SIAMESE),
]


def config_of(name):
    """Of the quickstart; Siamese methods on a ResNet have MoCo v3's data."""
    file = 'mocov3' if name.startswith('resnet_') else name
    cfg = Config.fromfile(REPO / f'configs/quickstart/{file}.py')
    if name.startswith('resnet_'):
        cfg.model = Config(dict(x=SIAMESE[name.removeprefix('resnet_')])).x
    if name == 'resnet_swav':
        dino = Config.fromfile(REPO / 'configs/quickstart/dino.py')
        cfg.data_preprocessor = dino.data_preprocessor
    return cfg


def tiny(name, work_dir, **watch):
    """A run of two iterations on digits."""
    cfg = config_of(name)
    settings = {
        'work_dir': str(work_dir),
        'train_cfg.max_iters': 2,
        'param_scheduler': None,
        'train_dataloader.batch_size': 8,
        'default_hooks.logger.interval': 1,
        'experiment_name': f'{work_dir.parent.name}_{work_dir.name}',
        'default_hooks.watch': dict(
            type='WatchHook', interval=1, num_images=2, num_held_out=6, **watch
        ),
    }
    if 'tokenizer' in cfg.model:
        settings['model.tokenizer'] = dict(_delete_=True, type='GreyTokenizer')
        head = 'generator.head' if 'generator' in cfg.model else 'head'
        settings[f'model.{head}.vocab_size'] = 16
    cfg.merge_from_dict(settings)
    return cfg


def train(cfg):
    runner = RUNNERS.build(cfg)
    runner.train()
    return runner


def scalars(work_dir):
    """Name -> step -> value, of all that has been logged."""
    found = {}
    (path,) = work_dir.glob('*/vis_data/scalars.json')
    for line in map(json.loads, path.read_text().splitlines()):
        for name, value in line.items():
            found.setdefault(name, {})[line['step']] = value
    return found


@pytest.mark.parametrize('method', METHODS)
def test_weights_are_those_of_a_run_without_it(method, tmp_path):
    watched = train(tiny(method, tmp_path / 'watched'))
    cfg = tiny(method, tmp_path / 'plain')
    cfg.default_hooks.pop('watch')
    plain = train(cfg)
    for (name, left), right in zip(
        watched.model.state_dict().items(), plain.model.state_dict().values(), strict=True
    ):
        assert left.equal(right), name
    assert watched.model.training

    shown = list((tmp_path / 'watched').glob('*/vis_data/vis_image/*'))
    assert sorted(p.name for p in shown) == [f'panels_{i}.png' for i in range(3)]
    assert min(Image.open(shown[0]).size) > 200
    found = scalars(tmp_path / 'watched')
    held_out = {k: v for k, v in found.items() if k.startswith('held_out/')}
    assert held_out and all(list(values) == [0, 1, 2] for values in held_out.values())
    values = [v for steps in held_out.values() for v in steps.values()]
    assert all(map(math.isfinite, values))
    assert ('held_out/effective_rank' in found) == (method != 'tokenizer')
    assert ('held_out/codes_predicted' in found) == (method[:3] in ('cim', 'bei'))


def test_held_out_losses_are_those_of_a_test(tmp_path):
    runner = train(tiny('mae', tmp_path / 'run'))
    model = runner.model.eval()
    dataset = runner.build_dataloader(runner.cfg.test_dataloader).dataset.dataset
    batch = torch.stack([dataset[i * len(dataset) // 6]['inputs'] for i in range(6)])
    seed_generators(0)
    with torch.no_grad():
        images = model.data_preprocessor(dict(inputs=batch))['inputs']
        expected = model.loss(images)['loss'].item()
    found = scalars(tmp_path / 'run')['held_out/loss'][2]
    assert found == pytest.approx(expected, rel=1e-5)


def test_missing_held_out_images_are_a_warning(tmp_path, caplog):
    cfg = tiny('mae', tmp_path / 'run')
    dataset = dict(type='ImageFolder', data_root=str(tmp_path / 'missing'), pipeline=[])
    cfg.test_dataloader.dataset = Config(dict(x=dataset)).x
    train(cfg)
    assert not [k for k in scalars(tmp_path / 'run') if k.startswith('held_out')]
    events = (tmp_path / 'run/events.jsonl').read_text()
    assert 'no held-out numbers' in events and 'missing' in events


def test_speed_and_wait_for_data(tmp_path):
    train(tiny('simmim', tmp_path / 'run', probe_root=None))
    found = scalars(tmp_path / 'run')
    # The first iteration's own values; then means.
    seconds, wait = found['time'][1], found['data_time'][1]
    assert found['images_per_s'][1] == pytest.approx(8 / seconds)
    assert found['data_wait'][1] == pytest.approx(wait / seconds)
    assert 0 < found['data_wait'][2] < 1


class Gradients(Hook):
    """Notes the gradient of a parameter in each iteration."""

    def before_train(self, runner):
        self.norms = []
        runner.model.line.weight.register_hook(lambda g: self.norms.append(g.item()))
        runner.model.line.bias.requires_grad = False


@pytest.mark.parametrize('counts', [1, 3])
def test_gradient_norm_is_logged_once_per_interval(make_runner, tmp_path, counts):
    gradients = Gradients()
    wrapper = dict(optimizer=dict(type='SGD', lr=0.01), accumulative_counts=counts)
    epochs = dict(by_epoch=True, max_epochs=10)
    runner = make_runner(
        [gradients, WatchHook()], optim_wrapper=wrapper, train_cfg=epochs
    )
    runner.train()
    # Due in iterations 10 and 20, and computed in the next step of the optimizer.
    steps = [9, 19] if counts == 1 else [slice(9, 12), slice(18, 20)]
    expected = [abs(np.sum(gradients.norms[step])) for step in steps]
    logged = scalars(tmp_path)['grad_norm']
    steps = [10, 20] if counts == 1 else [20]  # by then of the step before
    assert list(logged) == steps
    assert list(logged.values()) == pytest.approx(expected[-len(steps) :], rel=1e-5)
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


def test_scaled_gradients_of_a_fused_optimizer(make_runner, tmp_path):
    class Fused(torch.optim.SGD):
        grad_scale = torch.tensor(1024.0)  # as torch.amp.GradScaler sets it

    optimizer = Fused([torch.nn.Parameter(torch.zeros(2))], lr=0.1)
    optimizer.param_groups[0]['params'][0].grad = 1024 * torch.tensor([3.0, 4.0])
    hook = WatchHook()
    hook._norm_is_due = True
    optimizer.found_inf = torch.tensor(1.0)  # a step that will be skipped
    hook._keep_norm(optimizer)
    assert hook._norm is None
    optimizer.found_inf = torch.tensor(0.0)
    hook._keep_norm(optimizer)
    assert hook._norm.item() == 5


def test_clipped_gradients_are_logged_by_the_optimizer_alone(make_runner):
    clip = dict(optimizer=dict(type='SGD', lr=0.01), clip_grad=dict(max_norm=1.0))
    runner = make_runner([WatchHook()], optim_wrapper=clip)
    runner.train()
    assert not runner.optim_wrapper.optimizer._optimizer_step_pre_hooks


@pytest.fixture
def shades(tmp_path):
    """24 dark and 24 bright images."""
    generator = np.random.default_rng(0)
    for name, low in dict(bright=150, dark=0).items():
        (tmp_path / 'shades' / name).mkdir(parents=True)
        for i in range(24):
            pixels = generator.integers(low, low + 100, (24, 24, 3), np.uint8)
            Image.fromarray(pixels).save(tmp_path / f'shades/{name}/{i}.png')
    return tmp_path / 'shades'


def test_probe_separates_what_is_separable(shades, tmp_path):
    cfg = tiny('cim_respix', tmp_path / 'run', probe_root=str(shades))
    runner = train(cfg)
    found = scalars(tmp_path / 'run')
    assert found['probe/top1'] == {0: 100.0, 1: 100.0, 2: 100.0}
    lines = (tmp_path / 'run/events.jsonl').read_text().splitlines()
    events = [e for e in map(json.loads, lines) if e['event'] == 'probe']
    assert [e['metrics']['probe/top1'] for e in events] == [100.0] * 3
    assert not hasattr(runner.model.enhancer.backbone, 'normalization')
    # With fewer images, of both classes.
    probe = OnlineProbe(runner.model, str(shades), 10, (24, 24))
    assert len(probe.images) == 10 and set(probe.labels) == {0, 1}
    assert probe.accuracy(runner.model)['top1'] == 100.0


@pytest.mark.parametrize('problem', ['one class', 'damaged', 'missing'])
def test_a_probe_that_cannot_be_read_is_a_warning(problem, shades, tmp_path):
    if problem == 'one class':
        shutil.rmtree(shades / 'dark')
    elif problem == 'damaged':
        (shades / 'dark/3.png').write_bytes(b'no image')
    else:
        shades = tmp_path / 'nowhere'
    train(tiny('cim_respix', tmp_path / 'run', probe_root=str(shades)))
    assert 'probe/top1' not in scalars(tmp_path / 'run')
    events = (tmp_path / 'run/events.jsonl').read_text()
    assert events.count('There will be no probe (probe_root): ') == 1


def test_features_that_are_not_finite_have_no_accuracy(shades, tmp_path):
    model = train(tiny('mae', tmp_path / 'run')).model.eval()
    probe = OnlineProbe(model, str(shades), 10, (24, 24))
    model.backbone.cls_token.data.fill_(torch.nan)
    assert np.isnan(probe.accuracy(model)['top1'])


@pytest.mark.parametrize('method', ['mae', 'cim_respix'])
def test_divergence_is_named_by_the_loss(method, tmp_path):
    cfg = tiny(method, tmp_path / 'run')
    cfg.optim_wrapper.optimizer.lr = 1e30
    cfg.train_cfg.max_iters = 4
    cfg.default_hooks.logger.interval = 1
    with pytest.raises(FloatingPointError, match='a loss is not finite'):
        train(cfg)


def test_a_look_is_no_wait_for_data(tmp_path, monkeypatch):
    def slow(*args):
        time.sleep(1)
        return dict(loss=0.0)

    monkeypatch.setattr(watch, 'diagnose', slow)
    cfg = tiny('mae', tmp_path / 'run')
    cfg.train_cfg.max_iters = 4
    train(cfg)
    waited = scalars(tmp_path / 'run')['data_time']
    assert max(waited[step] for step in (2, 3, 4)) < 0.9


def test_classifiers_log_speed_alone(tmp_path):
    cfg = tiny('finetune', tmp_path / 'run')
    cfg.model.backbone.init_cfg = None
    cfg.train_cfg.val_interval = 2
    train(cfg)
    found = scalars(tmp_path / 'run')
    assert 'images_per_s' in found
    assert not [name for name in found if name.startswith('held_out')]
    assert not list((tmp_path / 'run').glob('*/vis_data/vis_image'))

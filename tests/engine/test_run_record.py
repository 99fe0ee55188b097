# Copyright (c) mmcim contributors. All rights reserved.
"""Recorded settings, and what happens if they differ."""

import pytest
import torch
import torch.multiprocessing as mp
from mmengine.model import BaseDataPreprocessor
from torch import nn

from mmcim.checkpoints import load_checkpoint
from mmcim.engine.checks import check_same_inputs
from mmcim.engine.data_parallel import check_processes, together
from mmcim.engine.run_record import compare, first_few
from mmcim.models.tokenizers.base import BaseTokenizer
from mmcim.utils import ConfigError

from ..models.selfsup.two_processes import free_port

EPOCHS = dict(by_epoch=True, max_epochs=3)
ONE_EPOCH = dict(by_epoch=True, max_epochs=1)
COSINE = dict(type='CosineAnnealingLR', eta_min=1e-4, by_epoch=False)


class Table(BaseTokenizer):
    """A tokenizer without a network."""

    vocab_size, stride = 2, 1

    def __init__(self, source, sha256):
        nn.Module.__init__(self)
        self.identity = dict(type='Table', source=source, sha256=sha256)

    def _encode(self, images):
        raise NotImplementedError

    def _decode(self, ids):
        raise NotImplementedError


@pytest.fixture
def line(make_runner):
    """A fresh model, with a tokenizer if its source and hash are given."""

    def build(*identity):
        model = type(make_runner().model)()
        if identity:
            model.tokenizer = Table(*identity)
        return model

    return build


def sgd(counts=1, **kwargs):
    optimizer = dict(type='SGD', lr=0.01, momentum=0.9) | kwargs
    return dict(optimizer=optimizer, accumulative_counts=counts)


def keep_warnings(runner, monkeypatch):
    warnings = []
    monkeypatch.setattr(runner.logger, 'warning', lambda text, *_: warnings.append(text))
    return warnings


def test_record_contains_plain_values(make_runner, tmp_path, line):
    make_runner(
        model=line('a.safetensors', 'abc'),
        train_cfg=ONE_EPOCH,
        optim_wrapper=sgd(2, weight_decay=0.1) | dict(clip_grad=dict(max_norm=3)),
        param_scheduler=[COSINE],
    ).train()
    record = load_checkpoint(tmp_path / 'epoch_1.pth')['meta']['run']
    torch.save(record, tmp_path / 'record')
    assert torch.load(tmp_path / 'record', weights_only=True) == record
    assert record['train_cfg'] == dict(max_epochs=1)
    assert record['train_dataloader'] == dict(
        images_per_iteration=4,
        iterations_per_epoch=2,
        dataset=dict(size=8, classes=None, image_size=None),
    )
    optim = record['optim_wrapper']
    assert (optim['accumulative_counts'], optim['clip_grad']) == (2, dict(max_norm=3))
    expected = dict(type='SGD', lr=0.01, momentum=0.9, weight_decay=0.1, nesterov=False)
    assert expected.items() <= optim['optimizer'].items()
    (schedule,) = record['param_scheduler']
    expected = dict(type='CosineAnnealingLR', eta_min=1e-4, begin=0, end=2)
    assert expected.items() <= schedule.items()
    identity = dict(type='Table', source='a.safetensors', sha256='abc')
    assert record['tokenizers'] == dict(tokenizer=identity)
    assert record['environment'].items() >= dict(processes=1, precision='float32').items()


def test_recorded_lr_ignores_warmup(make_runner):
    """The warm-up's rate would be ambiguous: others have the same product."""
    warm_up = dict(type='LinearLR', start_factor=0.1, end=1, by_epoch=False)
    runner = make_runner(
        train_cfg=ONE_EPOCH, optim_wrapper=sgd(), param_scheduler=warm_up
    )
    runner.train()
    assert runner.record['optim_wrapper']['optimizer']['lr'] == 0.01


def test_compare_lists_differences():
    first = dict(a=dict(lr=0.1, betas=[0.9, 0.95]), names=['cat', 'dog'], new=None)
    rounded = dict(a=dict(lr=0.1 + 1e-9, betas=[0.9, 0.95]), names=['cat', 'dog'])
    assert compare(first, rounded, 'a', 'b') == {}
    second = dict(a=dict(lr=0.2, betas=[0.9, 0.999]), names=['cat'])
    assert compare(first, second, 'A', 'B') == {
        'a.lr': 'a.lr is 0.1 in A and 0.2 in B',
        'a.betas.1': 'a.betas.1 is 0.95 in A and 0.999 in B',
        'names.1': 'names.1 is dog in A and None in B',
    }
    assert [*compare(dict(seed=0), dict(seed=None), 'A', 'B')] == ['seed']


def test_only_the_first_differences_are_named():
    assert first_few('abc') == 'a; b; c'
    assert first_few('abcde') == 'a; b; c; 2 more differences'


CHANGES = dict(
    batch=(dict(batch_size=2), 'images_per_iteration is 4 in the checkpoint and 2'),
    accumulation=(dict(optim_wrapper=sgd(2)), 'accumulative_counts is 1'),
    lr=(dict(optim_wrapper=sgd(lr=0.02)), 'optimizer.lr is 0.01 in the checkpoint'),
    momentum=(dict(optim_wrapper=sgd(momentum=0.8)), 'optimizer.momentum is 0.9'),
    decay=(dict(optim_wrapper=sgd(weight_decay=0.1)), 'optimizer.weight_decay is 0'),
    length=(dict(train_cfg=dict(by_epoch=True, max_epochs=4)), 'max_epochs is 3'),
    schedule=(dict(param_scheduler=[dict(COSINE, eta_min=1e-3)]), '0.eta_min is 0.0001'),
    clipping=(
        dict(optim_wrapper=sgd() | dict(clip_grad=dict(max_norm=1))),
        'clip_grad.max_norm is None in the checkpoint and 1',
    ),
)  # fmt: skip


@pytest.mark.parametrize('change', CHANGES)
def test_changed_setting_needs_override(make_runner, tmp_path, change, monkeypatch):
    settings = dict(train_cfg=EPOCHS, optim_wrapper=sgd(), param_scheduler=[COSINE])
    make_runner(**settings, work_dir=tmp_path / 'a').train()
    changed, message = CHANGES[change]
    resumed = dict(load_from=str(tmp_path / 'a/epoch_1.pth'), resume=True)
    settings |= resumed | dict(work_dir=tmp_path / 'b')
    with pytest.raises(ConfigError) as error:
        make_runner(**settings | changed).train()
    assert message in str(error.value)
    for remedy in ('epoch_1.pth', '--override', 'load_from'):
        assert remedy in str(error.value)
    runner = make_runner(**settings | changed, override=True)
    warnings = keep_warnings(runner, monkeypatch)
    runner.train()
    assert any(message in text for text in warnings)


def test_override_applies_config_schedule(make_runner, tmp_path):
    """After resuming, learning rates equal those of a run that always had them."""
    short = dict(train_cfg=EPOCHS, optim_wrapper=sgd(), param_scheduler=[COSINE])
    warm_up = dict(type='LinearLR', start_factor=0.1, end=3, by_epoch=False)
    decay = dict(type='StepLR', step_size=1, gamma=0.5, by_epoch=True, begin=1)
    longer = dict(
        train_cfg=dict(by_epoch=True, max_epochs=5),
        optim_wrapper=sgd(lr=0.03, momentum=0.5),
        param_scheduler=[warm_up, decay],
    )
    make_runner(**short, work_dir=tmp_path / 'a').train()
    make_runner(**longer, work_dir=tmp_path / 'b').train()
    make_runner(
        **longer,
        work_dir=tmp_path / 'c',
        load_from=str(tmp_path / 'a/epoch_2.pth'),
        resume=True,
        override=True,
    ).train()
    for epoch in (3, 4, 5):
        whole, resumed = (
            load_checkpoint(tmp_path / f'{name}/epoch_{epoch}.pth') for name in 'bc'
        )
        groups = [c['optimizer']['param_groups'][0] for c in (whole, resumed)]
        for key in ('lr', 'initial_lr', 'momentum'):
            assert groups[0][key] == pytest.approx(groups[1][key]), (epoch, key)
        assert whole['meta']['iter'] == resumed['meta']['iter'] == 2 * epoch


def test_override_logs_config_base_lr(make_runner, tmp_path):
    """With several parameter groups it has its own entry."""
    grouped = dict(paramwise_cfg=dict(bias_lr_mult=1.0))
    run = dict(train_cfg=ONE_EPOCH, param_scheduler=[COSINE])
    make_runner(**run, optim_wrapper=sgd() | grouped).train()
    again = make_runner(
        **run, optim_wrapper=sgd(lr=0.02) | grouped, resume=True, override=True
    )
    again.train()
    group = again.optim_wrapper.base_param_settings
    lr = again.optim_wrapper.get_lr()
    assert group['initial_lr'] == 0.02
    assert lr['base_lr'] * 2 == lr['lr']  # which has two groups


def test_override_keeps_optimizer_states(make_runner, tmp_path):
    """Without further steps the momenta equal those of the checkpoint."""
    settings = dict(train_cfg=ONE_EPOCH, optim_wrapper=sgd())
    make_runner(**settings).train()
    settings['optim_wrapper'] = sgd(momentum=0.5)
    runner = make_runner(**settings, resume=True, override=True)
    runner.train()
    state = load_checkpoint(tmp_path / 'epoch_1.pth')['optimizer']['state']
    for index, value in runner.optim_wrapper.state_dict()['state'].items():
        assert value['momentum_buffer'].equal(state[index]['momentum_buffer'])
        assert value['momentum_buffer'].abs().max() > 0
    assert runner.optim_wrapper.param_groups[0]['momentum'] == 0.5


def test_override_with_other_batch_size_keeps_epoch(make_runner, tmp_path):
    """Iteration 2 of 4 in the second epoch is iteration 1 of 2."""
    every = dict(type='SafeCheckpointHook', interval=1, by_epoch=False)
    run = dict(train_cfg=EPOCHS, checkpoint=dict(every))
    make_runner(**run, batch_size=2, work_dir=tmp_path / 'a').train()
    runner = make_runner(
        **run,
        batch_size=4,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / 'a/iter_6.pth'),
        resume=True,
        override=True,
    )
    places = []
    step = runner.model.train_step
    runner.model.train_step = lambda *a, **k: (
        places.append((runner.epoch, runner.iter)), step(*a, **k))[1]  # fmt: skip
    runner.train()
    assert places == [(1, 3), (2, 4), (2, 5)]


def test_different_tokenizer_raises(make_runner, line):
    make_runner(model=line('a.safetensors', 'abc'), train_cfg=EPOCHS).train()

    def resume(model):
        make_runner(model=model, train_cfg=EPOCHS, resume=True).train()

    with pytest.raises(ConfigError, match='tokenizer.sha256 is abc .* and def'):
        resume(line('b.safetensors', 'def'))
    with pytest.raises(ConfigError, match='tokenizer.sha256 is abc .* and None'):
        resume(line())
    # The same weights at another path are the same tokenizer.
    resume(line('/moved/a.safetensors', 'abc'))


@pytest.mark.parametrize(('epoch', 'lost'), [(1, 2), (2, 1), (3, 0)])
def test_dropped_accumulated_gradients_are_logged(
    make_runner, tmp_path, monkeypatch, epoch, lost
):
    """An epoch has two iterations, an optimizer step three."""
    run = dict(optim_wrapper=sgd(3), train_cfg=dict(by_epoch=True, max_epochs=4))
    make_runner(**run, work_dir=tmp_path / 'a').train()
    again = make_runner(
        **run,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / f'a/epoch_{epoch}.pth'),
        resume=True,
    )
    warnings = keep_warnings(again, monkeypatch)
    again.train()
    found = [text for text in warnings if 'lacks the gradients' in text]
    assert len(found) == (lost > 0)
    assert all(f'gradients of {lost} iteration' in text for text in found)


def test_load_from_ignores_run_record(make_runner, tmp_path):
    make_runner(train_cfg=ONE_EPOCH, work_dir=tmp_path / 'a').train()
    make_runner(
        batch_size=2,
        work_dir=tmp_path / 'b',
        load_from=str(tmp_path / 'a/epoch_1.pth'),
    ).train()


def test_different_versions_warn(make_runner, tmp_path, monkeypatch):
    make_runner(train_cfg=ONE_EPOCH).train()
    file = tmp_path / 'epoch_1.pth'
    checkpoint = load_checkpoint(file)
    checkpoint['meta']['run']['environment'].update(torch='1.0', processes=2)
    torch.save(checkpoint, file)
    again = make_runner(train_cfg=ONE_EPOCH, resume=True)
    warnings = keep_warnings(again, monkeypatch)
    again.train()
    assert any('environment.torch is 1.0 in the checkpoint' in text for text in warnings)
    assert any('environment.processes is 2' in text for text in warnings)


def test_checkpoint_without_record_is_refused(make_runner, tmp_path):
    make_runner(train_cfg=ONE_EPOCH).train()
    checkpoint = load_checkpoint(tmp_path / 'epoch_1.pth')
    del checkpoint['meta']['run']
    torch.save(checkpoint, tmp_path / 'epoch_1.pth')
    with pytest.raises(ConfigError, match='has no run. Take another one'):
        make_runner(train_cfg=ONE_EPOCH, resume=True).train()


def fail(message):
    with together():
        if message:
            raise ConfigError(message)


def in_two(rank, port, folder, check, arguments):
    torch.distributed.init_process_group(
        'gloo', init_method=f'tcp://127.0.0.1:{port}', rank=rank, world_size=2
    )
    try:
        check(arguments[rank])
        outcome = 'passed'
    except ConfigError as error:
        outcome = f'{type(error).__name__}: {error}'
    (folder / f'{rank}.txt').write_text(outcome)
    torch.distributed.destroy_process_group()


def outcomes(tmp_path, check, *arguments):
    arguments = (free_port(), tmp_path, check, arguments)
    mp.start_processes(in_two, arguments, nprocs=2, start_method='fork')
    return [(tmp_path / f'{rank}.txt').read_text() for rank in range(2)]


def test_all_ranks_stop_if_settings_differ(tmp_path):
    message = 'iteration is 3 in process 0 and 4 in process 1'
    for other, part in ((3, 'passed'), (4, message)):
        records = [dict(iteration=3), dict(iteration=other)]
        for outcome in outcomes(tmp_path, check_processes, *records):
            assert part in outcome


def test_all_ranks_stop_if_one_fails(tmp_path):
    """One node lacks the checkpoint; without the check the others would wait."""
    assert outcomes(tmp_path, fail, '', '') == ['passed'] * 2
    assert outcomes(tmp_path, fail, '', 'b') == ['ConfigError: b'] * 2
    assert outcomes(tmp_path, fail, 'a', 'b') == ['ConfigError: a', 'ConfigError: b']


# --------------------------------------------------------------------------------------
# Between training, validation and test


class Named:
    """Numbers with class names."""

    def __init__(self, data, classes):
        self.data, self.metainfo = data, dict(classes=classes)

    def __len__(self):
        return len(self.data)

    def __getitem__(self, index):
        return self.data[index]


def with_classes(runner, train, val):
    for name, classes in dict(train=train, val=val).items():
        loader = getattr(runner, f'_{name}_dataloader')
        loader['dataset'] = Named(loader['dataset'], classes)
    return runner


@pytest.mark.parametrize(
    ('val', 'message'),
    [
        (('cat', 'n01'), 'classes.1 is dog in training and n01 in val'),
        (('cat', 'dog'), None),
        (None, None),
    ],
)
def test_different_class_names_warn(make_runner, monkeypatch, val, message):
    runner = with_classes(make_runner(scores=[1, 2]), ('cat', 'dog'), val)
    warnings = keep_warnings(runner, monkeypatch)
    runner.train()
    found = [text for text in warnings if 'The data differ' in text]
    assert len(found) == (message is not None)
    assert all(message in text for text in found)


class Normalized(BaseDataPreprocessor):
    def __init__(self, mean):
        super().__init__()
        self.register_buffer('mean', torch.tensor(mean).view(3, 1, 1), False)
        self.register_buffer('std', torch.ones(3, 1, 1), False)


def test_normalization_of_loaded_backbone_is_checked():
    model = nn.Module()
    model.data_preprocessor = Normalized([123.675, 116.28, 103.53])
    model.backbone = nn.Linear(1, 1)
    mean, std = [123.675, 116.28, 103.53], [1.0] * 3
    model.backbone.normalization = mean, std  # as load_into sets it
    check_same_inputs(model, {}, '')
    model.backbone.normalization = [127.5] * 3, [1.0] * 3
    with pytest.raises(ConfigError) as error:
        check_same_inputs(model, {}, '')
    check_same_inputs(model, {}, '', override=True)
    for part in ('backbone', 'mean.0 is 127.5', '123.67', 'preprocessor.mean=[127.5'):
        assert part in str(error.value)

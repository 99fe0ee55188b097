# Copyright (c) mmcim contributors. All rights reserved.
"""mmcim train as a process: a whole run, an interrupted one, and each bad input."""

import json
import os
import pickle
import re
import signal
from pathlib import Path
from types import SimpleNamespace

import mmpretrain
import pytest
import torch
from mmengine.config import Config

import mmcim_cli
from mmcim.checkpoints import load_checkpoint

from .toy_run import REPO, run_forked

MMPRETRAIN_TRAIN = Path(mmpretrain.__file__).parent / '.mim/tools/train.py'
# Is killed while it writes the second epoch's checkpoint, with half of the file there.
CRASH = """
import os, signal
fsync = os.fsync
def kill(fd):
    path = os.readlink(f'/proc/self/fd/{fd}')
    if 'epoch_2.pth' in path:
        os.truncate(path, os.path.getsize(path) // 2)
        os.kill(os.getpid(), signal.SIGKILL)
    fsync(fd)
os.fsync = kill
"""
# Gets SIGTERM while it writes the first checkpoint.
TERMINATE = """
import os, signal
fsync = os.fsync
def terminate(fd):
    os.fsync = fsync
    assert os.readlink(f'/proc/self/fd/{fd}').endswith('.tmp')
    os.kill(os.getpid(), signal.SIGTERM)
    fsync(fd)
os.fsync = terminate
"""

# Lets mmengine's own runner carry out the config.
ALLOW = """
from mmcim.engine import SafeCheckpointHook, WatchHook
del SafeCheckpointHook.before_run, WatchHook.after_train_iter
"""


@pytest.fixture(scope='module')
def resumed(toy):
    """A run that was killed while it wrote, and then resumed.

    ``found`` is a copy of its work directory from between the two, and ``without``
    another copy, resumed by mmengine's own runner. ``theirs`` is a whole run by the tool
    of mmpretrain.
    """
    killed, found, without, theirs = (
        toy.folder / name for name in ('killed', 'found', 'without', 'theirs')
    )
    copy = f'import shutil; shutil.copytree({str(killed)!r}, {{!r}})'
    arguments = ['train.py', toy.config, '--work-dir']
    results = run_forked(
        {
            'crash': [*arguments, killed],
            'copy': ['train.py', '--help'],
            'without': [*arguments, without, '--resume']
            + ['--cfg-options', 'runner_type=Runner'],
            'resume': [*arguments, killed, '--resume'],
            'theirs': [MMPRETRAIN_TRAIN, toy.config, '--work-dir', theirs],
        },
        cwd=toy.folder,
        before={
            'crash': CRASH,
            'copy': copy.format(str(found)),
            # last_checkpoint still names the folder that this one was copied from.
            'without': f'{copy.format(str(without))}\n{ALLOW}',
        },
    )
    assert results['crash'].code == -signal.SIGKILL, results['crash'].output
    for name in ('copy', 'without', 'resume', 'theirs'):
        assert results[name].code == 0, results[name].output
    return SimpleNamespace(
        work_dir=killed,
        found=found,
        without=without,
        theirs=theirs,
        output=results['resume'].output,
    )


def same(a: object, b: object) -> bool:
    """Compare nested containers of tensors and values bit by bit."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key]) for key in a)
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(same, a, b))
    return a == b


def test_complete_run(trained):
    files = {path.name for path in trained.iterdir() if path.suffix == '.pth'}
    best = {name for name in files if name.startswith('best_')}
    assert files - best == {'epoch_2.pth', 'epoch_3.pth'}
    assert len(best) == 1
    assert (trained / 'last_checkpoint').read_text() == str(trained / 'epoch_3.pth')

    output = (trained / 'output.txt').read_text()
    assert 'Effective batch: 8 = 1 process(es) x 8 x 1 accumulated' in output
    assert 'Learning rate: 0.005\n' in output  # 0.01 at a batch of 16
    assert 'Images: 32 to train on\n' in output
    assert 'Start: from scratch, iteration 0 of 12' in output
    rates = [float(r) for r in re.findall(r'\blr (\S+)', output)]
    assert rates[0] == pytest.approx(0.005, rel=0.1)


def test_crash_while_writing_leaves_the_previous_checkpoint(resumed):
    """Only the complete checkpoint has a checkpoint's name."""
    (half,) = resumed.found.glob('.*.tmp')
    assert re.fullmatch(r'\.epoch_2\.pth\.\d+\.tmp', half.name)
    assert not (resumed.found / 'epoch_2.pth').exists()
    named = (resumed.found / 'last_checkpoint').read_text()
    assert named == str(resumed.work_dir / 'epoch_1.pth')
    assert load_checkpoint(resumed.found / 'epoch_1.pth')['meta']['epoch'] == 1
    # The next start removed the half-written file.
    assert not list(resumed.work_dir.glob('.*.tmp'))


def test_resumed_run_equals_uninterrupted_run(trained, resumed):
    """Bit by bit, with random crops in two workers and dropout in the model."""
    straight = load_checkpoint(trained / 'epoch_3.pth')
    again = load_checkpoint(resumed.work_dir / 'epoch_3.pth')
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(straight[key], again[key]), key
    for key in ('epoch', 'iter', 'run'):
        assert same(straight['meta'][key], again['meta'][key]), key
    assert again['meta']['iter'] == 12
    # With mmengine's runner the run goes another way.
    other = load_checkpoint(resumed.without / 'epoch_3.pth')
    assert not same(straight['state_dict'], other['state_dict'])


def test_mmpretrains_tool_gives_the_same_run(trained, resumed):
    ours, theirs = (
        load_checkpoint(folder / 'epoch_3.pth') for folder in (trained, resumed.theirs)
    )
    for key in ('state_dict', 'optimizer', 'param_schedulers'):
        assert same(ours[key], theirs[key]), key
    assert same(ours['meta']['run'], theirs['meta']['run'])


def test_number_of_checkpoints_after_resuming(resumed):
    kept = {path.name for path in resumed.work_dir.glob('epoch_*.pth')}
    assert kept == {'epoch_2.pth', 'epoch_3.pth'}


class Code:
    """Runs a command when it is unpickled."""

    def __init__(self, marker):
        self.marker = str(marker)

    def __reduce__(self):
        return os.mkdir, (self.marker,)


@pytest.fixture(scope='module')
def bad(toy, trained):
    """Run the tool with one bad input after another."""
    folder = toy.folder / 'bad'
    folder.mkdir()
    (folder / 'a_file').write_text('')
    (folder / 'no_images/train/a').mkdir(parents=True)
    (folder / 'no_images/val').mkdir()
    (folder / 'no_images/train/a/readme.txt').write_text('')
    torch.save(
        {'state_dict': {}, 'meta': Code(folder / 'code_has_run')}, folder / 'code.pth'
    )
    whole = (trained / 'epoch_3.pth').read_bytes()
    (folder / 'half.pth').write_bytes(whole[: len(whole) // 2])
    moved = folder / 'moved'
    moved.mkdir()
    (moved / 'last_checkpoint').write_text('/nowhere/epoch_9.pth')

    def case(*options, config=toy.config, work_dir='work', **arguments):
        argv = ['train.py', config, '--work-dir', folder / work_dir]
        for name, value in arguments.items():
            argv += [f'--{name}', value]
        return [*argv, *(['--cfg-options', *options] if options else [])]

    # All but one layer's tensors: mmengine would load it and only warn.
    weights = load_checkpoint(trained / 'epoch_3.pth')['state_dict']
    part = {k: v for k, v in weights.items() if 'layers.0.attn' not in k}
    torch.save({'state_dict': part}, folder / 'part.pth')
    begin = 'load_from=' + str(trained / 'epoch_3.pth')

    cases = dict(
        part=case(f'load_from={folder / "part.pth"}'),
        begin=case(begin, 'train_cfg.max_epochs=1', work_dir='begun'),
        model_key=case('model.backbone.drop_rat=0.1'),
        pipeline_key=case('train_dataloader.dataset.pipeline.1.scales=16'),
        val_pipeline_key=case('val_dataloader.dataset.pipeline.1.scales=16'),
        loader_key=case('train_dataloader.num_worker=2'),
        optimizer_key=case('optim_wrapper.optimizer.weight_deca=0.1'),
        hook_key=case('default_hooks.logger.intervall=2'),
        checkpoint_key=case('default_hooks.checkpoint.intervall=2'),
        evaluator_key=case('val_evaluator.topks=1'),
        top_key=case('train_dataloder.batch_size=2'),
        unknown_type=case('model.backbone.type=VisionTransformr'),
        data_root=case(f'train_dataloader.dataset.data_root={folder}/nowhere'),
        val_data_root=case(f'val_dataloader.dataset.data_root={folder}/nowhere'),
        data_prefix=case('train_dataloader.dataset.data_prefix=trian'),
        ann_file=case('train_dataloader.dataset.ann_file=train.txt'),
        empty=case(f'train_dataloader.dataset.data_root={folder}/no_images'),
        work_dir=case(work_dir='a_file/work'),
        config=case(config=folder / 'nowhere.py'),
        load_from=case(f'load_from={folder}/nowhere.pth'),
        resume=case(resume=folder / 'nowhere.pth'),
        resume_moved=case(resume='auto', work_dir='moved'),
        resume_code=case(resume=folder / 'code.pth'),
        resume_half=case(resume=folder / 'half.pth'),
        resume_batch=case(
            'train_dataloader.batch_size=4', resume=trained / 'epoch_2.pth'
        ),
        resume_weights=case(resume=folder / 'part.pth'),
        resume_model=case(
            'model.backbone.arch.num_layers=2', resume=trained / 'epoch_2.pth'
        ),
        option=case('train_dataloader.dataset.pipeline.9.scale=16'),
        no_finite_loss=case(
            'auto_scale_lr.enable=False', 'optim_wrapper.optimizer.lr=1e30'
        ),
    )
    cases['backbone_file'] = ['train.py', REPO / 'configs/quickstart/finetune.py']
    cases['finished'] = case(resume=trained / 'epoch_3.pth')
    cases['other_runner'] = case('runner_type=Runner')
    cases['terminated'] = case(resume='auto', work_dir='terminated')
    cases['help'] = ['train.py', '--help']
    return folder, run_forked(cases, cwd=folder, before=dict(terminated=TERMINATE))


EXPECTED = dict(
    model_key=['model.backbone.drop_rat', 'VisionTransformer', 'drop_rate'],
    pipeline_key=['train_dataloader.dataset.pipeline.1.scales', 'RandomResizedCrop'],
    val_pipeline_key=['val_dataloader.dataset.pipeline.1.scales', 'Resize', 'scale'],
    loader_key=['train_dataloader.num_worker: ', 'DataLoader has no argument'],
    optimizer_key=['optim_wrapper.optimizer.weight_deca', 'AdamW', 'weight_decay'],
    hook_key=['default_hooks.logger.intervall', 'LoggerHook', 'interval'],
    checkpoint_key=['SafeCheckpointHook', 'intervall'],
    evaluator_key=['val_evaluator.topks', 'Accuracy', 'topk'],
    top_key=['train_dataloder', 'train_dataloader'],
    unknown_type=['model.backbone: ', "'VisionTransformr'", "'VisionTransformer'?"],
    data_root=['train_dataloader.dataset: ', 'nowhere/train', "data_prefix='train'"],
    val_data_root=['val_dataloader.dataset: ', 'nowhere'],
    data_prefix=['train_dataloader.dataset: ', 'data/trian'],
    ann_file=['train_dataloader.dataset: ', 'data/train.txt'],
    empty=[
        'train_dataloader.dataset: ',
        'no_images/train',
        '.png',
    ],
    work_dir=['Not a directory', 'a_file/work'],
    config=['nowhere.py does not exist'],
    load_from=['nowhere.pth', 'does not exist'],
    resume=['nowhere.pth', 'does not exist'],
    resume_moved=['last_checkpoint', '/nowhere/epoch_9.pth', '--work-dir'],
    resume_code=['code.pth', 'mkdir', 'could run any code'],
    part=['part.pth', 'does not fit a ', 'layers.0.attn.proj.bias'],
    resume_half=['half.pth', 'damaged'],
    resume_batch=[
        'images_per_iteration is 8 in the checkpoint and 4 in this run',
        '--override',
        'load_from',
    ],
    resume_weights=['part.pth', 'is not of the ImageClassifier', 'load_from'],
    resume_model=[
        'epoch_2.pth is not of the ImageClassifier of this config',
        'layers.1.ln1.weight is None in the checkpoint and (16,) in the model',
        '--work-dir',
    ],
    option=['--cfg-options', '9'],
    backbone_file=['_backbone.safetensors does not exist; pass --pretrained'],
)


@pytest.mark.parametrize('name', EXPECTED)
def test_invalid_input_exits_with_code_2(bad, name):
    _, results = bad
    result = results[name]
    assert result.code == 2, result.output
    assert 'Traceback' not in result.output
    message = result.output[result.output.index('error: ') :]
    for part in EXPECTED[name]:
        assert part in message


def test_load_from_reports_loaded_weights(bad):
    _, results = bad
    assert results['begin'].code == 0, results['begin'].output
    report = re.search(
        r'Backbone weights: (\d+) of (\d+) tensors matched', results['begin'].output
    )
    assert report and report[1] == report[2]


def test_code_in_a_checkpoint_does_not_run(bad):
    folder, _ = bad
    assert not (folder / 'code_has_run').exists()
    # The file does run code where loading is not safe.
    pickle.loads(pickle.dumps(Code(folder / 'code_has_run')))
    assert (folder / 'code_has_run').exists()


def test_invalid_input_leaves_no_work_directory(bad):
    """But for the runs that got as far as building."""
    folder, _ = bad
    assert not (folder / 'a_file/work').exists()
    assert not list(folder.glob('**/.*.tmp'))


def test_infinite_loss_stops_before_the_checkpoint(bad):
    folder, results = bad
    result = results['no_finite_loss']
    assert result.code == 1
    *_, error, where = result.output.strip().splitlines()
    assert error.startswith('error: FloatingPointError: ')
    for part in ('a loss is not finite at iteration 2', 'learning rate'):
        assert part in error
    # The screen has no traceback, the log file does.
    assert 'Traceback' not in result.output
    log = where.removeprefix('The traceback is in ')
    assert 'Traceback' in Path(log).read_text()
    assert not list(folder.glob('work/*.pth'))


def test_terminated_while_writing_completes_the_checkpoint(bad):
    """It leaves in the validation that follows, where there is nothing to add."""
    folder, results = bad
    result = results['terminated']
    assert result.code == 128 + signal.SIGTERM, result.output
    work_dir = folder / 'terminated'
    assert f'No checkpoint in {work_dir}: start from scratch' in result.output
    assert f'continues from {work_dir}/epoch_1.pth' in result.output
    assert [path.name for path in work_dir.glob('*.pth')] == ['epoch_1.pth']
    assert not list(work_dir.glob('.*.tmp'))


def test_finished_run_has_nothing_left_to_do(bad):
    _, results = bad
    assert results['finished'].code == 0, results['finished'].output
    assert 'Nothing to do' in results['finished'].output
    assert 'Effective batch' not in results['finished'].output


def test_other_runner_stops_before_training(bad):
    _, results = bad
    assert results['other_runner'].code == 1
    message = 'error: TypeError: this config needs a StrictRunner'
    assert message in results['other_runner'].output


def test_help_names_the_options(bad):
    _, results = bad
    assert results['help'].code == 0
    for option in ('--resume', '--amp', '--cfg-options', '--launcher', '--work-dir'):
        assert option in results['help'].output


def test_main_can_be_called_repeatedly_in_one_process(toy):
    """The same seed gives the same weights, and each call returns its own runner."""
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    runners = [
        mmcim_cli.run(
            mmcim_cli.parse(
                ['train', str(toy.config), '--work-dir', str(toy.folder / name), *options]
            )
        )
        for name in ('first', 'second')
    ]
    assert [runner.iter for runner in runners] == [4, 4]
    assert runners[1].work_dir == str(toy.folder / 'second')
    first, second = (runner.model.state_dict() for runner in runners)
    assert same(first, second)


def test_comments_at_the_top_of_a_config_stay(toy):
    """Also of one in its own work directory, which the complete config replaces."""
    config = toy.folder / 'commented/config.py'
    config.parent.mkdir()
    config.write_text('# Chosen\n# for a reason\n' + toy.config.read_text())
    options = ['--no-validate', '--cfg-options', 'train_cfg.max_epochs=1']
    words = ['train', str(config), '--work-dir', str(config.parent), *options]
    mmcim_cli.run(mmcim_cli.parse(words))
    text = config.read_text()
    assert text.startswith('# Chosen\n# for a reason\n')
    assert Config.fromfile(config).train_cfg.max_epochs == 1


def test_logs_scalars(trained):
    scalars = next(trained.glob('*/vis_data/scalars.json')).read_text().splitlines()
    train = [json.loads(line) for line in scalars if 'grad_norm' in line]
    assert [entry['iter'] for entry in train] == [2, 4, 6, 8, 10, 12]

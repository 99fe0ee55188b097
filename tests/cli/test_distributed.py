# Copyright (c) mmcim contributors. All rights reserved.
"""Two processes on CPUs through the shell scripts."""

import os
import re
import signal
import socket
import subprocess

import pytest
import torch
from mmpretrain.registry import MODELS
from safetensors.torch import save_file

from mmcim.checkpoints import backbone_path, load_checkpoint
from mmcim.utils import load_config

from .toy_run import REPO, TOOLS, environment, run_forked, run_tool

pytestmark = pytest.mark.slow

# No randomness, so that two processes with half the batch do what one does with all.
FIXED = [
    'model.backbone.drop_rate=0',
    'train_dataloader.sampler.shuffle=False',
    'train_dataloader.dataset.pipeline.1.crop_ratio_range="(1.,1.)"',
    'train_dataloader.dataset.pipeline.1.aspect_ratio_range="(1.,1.)"',
    'train_dataloader.dataset.pipeline.2.prob=0.',
    'train_dataloader.dataset.pipeline.3.brightness=0.',
    'optim_wrapper.clip_grad.max_norm=0.5',
    # Not Adam: the biases of keys have no gradient but rounding, which it would blow up
    # to a large part of a step.
    'optim_wrapper.optimizer.type=SGD',
]


# What two nodes need, but for the number of this one.
NODES = dict(NNODES='2', MASTER_ADDR='10.0.0.1')


@pytest.fixture(scope='module')
def two(toy):
    """One epoch in two processes of batch 4."""
    work_dir = toy.folder / 'two'
    result = run_tool(
        TOOLS / 'dist_train.sh',
        toy.config,
        2,
        '--work-dir',
        work_dir,
        '--cfg-options',
        'train_dataloader.batch_size=4',
        'train_cfg.max_epochs=1',
        *FIXED,
        cwd=toy.folder,
    )
    assert result.code == 0, result.output
    return work_dir, result.output


@pytest.fixture(scope='module')
def one(toy, two):
    """The same epoch in one process of batch 8, and the first run resumed in one."""
    work_dir = toy.folder / 'one'
    more = ['--cfg-options', *FIXED]
    resume = ['train.py', toy.config, '--resume', two[0] / 'epoch_1.pth', '--work-dir']
    cases = dict(
        one=['train.py', toy.config, '--work-dir', work_dir, '--cfg-options', *FIXED]
        + ['train_cfg.max_epochs=1'],
        half_batch=[*resume, toy.folder / 'half_batch', *more]
        + ['train_dataloader.batch_size=4', 'train_cfg.max_epochs=1'],
        same_batch=[*resume, toy.folder / 'same_batch', '--override', *more]
        + ['train_cfg.max_epochs=2'],
    )
    return work_dir, run_forked(cases, cwd=toy.folder)


def test_two_processes_match_one(two, one):
    assert one[1]['one'].code == 0, one[1]['one'].output
    left = load_checkpoint(two[0] / 'epoch_1.pth')['state_dict']
    right = load_checkpoint(one[0] / 'epoch_1.pth')['state_dict']
    assert left.keys() == right.keys()
    for name, value in left.items():
        torch.testing.assert_close(value, right[name], rtol=1e-5, atol=1e-6, msg=name)


def test_effective_batch_and_learning_rate_count_all_processes(two):
    assert 'Effective batch: 8 = 2 process(es) x 4 x 1 accumulated' in two[1]
    # 0.01 at a batch of 16, halved.
    assert 'Learning rate: 0.005\n' in two[1]


def test_run_record_counts_processes(two):
    record = load_checkpoint(two[0] / 'epoch_1.pth')['meta']['run']
    assert record['train_dataloader']['images_per_iteration'] == 8
    assert record['environment']['processes'] == 2


def test_resuming_with_another_number_of_processes(one):
    results = one[1]
    assert results['half_batch'].code == 2
    wrong = 'images_per_iteration is 8 in the checkpoint and 4 in this run'
    assert wrong in results['half_batch'].output
    assert results['same_batch'].code == 0, results['same_batch'].output
    told = 'Resuming: environment.processes is 2 in the checkpoint and 1 in this run'
    assert told in results['same_batch'].output


def test_pretraining_in_two_processes(toy, monkeypatch):
    """From the second iteration on, all gradients of the first must have come."""
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        monkeypatch.setenv('PORT', str(free.getsockname()[1]))
    net = MODELS.build(
        dict(type='DiscreteVAENet', stride=4, vocab_size=32, width=64, depth=1)
        | dict(code_dims=64)
    )
    save_file(net.state_dict(), toy.folder / 'tokenizer.safetensors')
    result = run_tool(
        TOOLS / 'dist_train.sh',
        REPO / 'configs/quickstart/cim_respix.py',
        2,
        '--work-dir',
        toy.folder / 'pre_training',
        '--cfg-options',
        f'model.tokenizer.checkpoint={toy.folder}/tokenizer.safetensors',
        'train_dataloader.batch_size=4',
        'train_cfg.max_iters=3',
        'param_scheduler=None',
        cwd=toy.folder,
    )
    assert result.code == 0, result.output
    assert backbone_path(toy.folder / 'pre_training/iter_3.pth').is_file()


def test_error_is_printed_once(toy):
    """All processes end, the first one speaks for all, and torchrun repeats it."""
    result = run_tool(
        TOOLS / 'dist_train.sh',
        toy.config,
        2,
        '--cfg-options',
        'model.backbone.drop_rat=0',
        cwd=toy.folder,
    )
    assert result.code != 0
    assert result.output.count('error: model.backbone.drop_rat') == 1
    *_, report = result.output.split('Root Cause')
    assert 'BuildError: model.backbone.drop_rat' in report
    assert 'Traceback' not in result.output


def test_ctrl_c_needs_no_traceback(toy):
    command = [TOOLS / 'dist_train.sh', toy.config, '2', '--cfg-options']
    with subprocess.Popen(
        [*command, 'train_cfg.max_epochs=1000', f'work_dir={toy.folder}/interrupted'],
        env=environment(),
        cwd=toy.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert any(' images/s' in line for line in process.stdout)
        process.send_signal(signal.SIGINT)
        lines = process.stdout.read().splitlines()
    assert process.returncode == 128 + signal.SIGINT
    (stopped,) = [line for line in lines if line.startswith('Stopped by SIGINT after ')]
    assert str(toy.folder / 'interrupted') in stopped
    assert 'Traceback' not in lines and not any('error: ' in line for line in lines)


def test_two_tests_at_once_give_the_metric_of_one_process(toy, trained):
    command = [TOOLS / 'dist_test.sh', toy.config, trained / 'epoch_3.pth', '2']
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    processes = [
        subprocess.Popen(
            [*command, f'--work-dir={toy.folder}/{name}'],
            env=environment(),
            cwd=toy.folder,
            **pipes,
        )
        for name in ('first', 'second')
    ]
    outputs = [process.communicate()[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0], outputs
    # The last validation of the run, in one process.
    validated = re.findall(r'accuracy/top1 (\S+)', (trained / 'output.txt').read_text())
    for output in outputs:
        (metric,) = re.findall(r'^accuracy/top1: (\S+)$', output, re.M)
        assert metric == validated[-1]


@pytest.mark.parametrize(
    'script', ['dist_train.sh', 'dist_test.sh', 'slurm_train.sh', 'slurm_test.sh']
)
def test_scripts_print_usage(toy, script):
    result = run_tool(TOOLS / script, cwd=toy.folder)
    assert result.code == 2
    assert result.output.startswith('usage:')


@pytest.mark.parametrize(
    ('script', 'arguments', 'environ', 'message'),
    [
        ('dist_train.sh', ['a.py', 'many'], {}, "PROCESSES must be a number .*'many'"),
        ('dist_test.sh', ['a.py', 'b.pth', '0'], {}, "PROCESSES must be a number .*'0'"),
        ('dist_train.sh', ['a.py', '2'], dict(NNODES='2'), 'NNODES=2 needs MASTER_ADDR'),
        ('dist_train.sh', ['a.py', '2'], NODES, "NODE_RANK, from 0 to 1, .*got ''"),
        (
            'dist_test.sh',
            ['a.py', 'b.pth', '2'],
            {**NODES, 'NODE_RANK': '2'},
            "NODE_RANK, from 0 to 1, .*got '2'",
        ),
        (
            'dist_train.sh',
            ['a.py', '2'],
            dict(PYTHON='nopython'),
            "'nopython' has no tor",
        ),
        ('slurm_train.sh', [*'abcd'], dict(GPUS='x'), "GPUS must be a number .*'x'"),
        ('slurm_test.sh', [*'abcd'], dict(GPUS_PER_NODE='0'), "_PER_NODE must be .*'0'"),
        ('slurm_test.sh', [*'abcd'], dict(CPUS_PER_TASK='0'), "_PER_TASK must be .*'0'"),
    ],
)
def test_invalid_launch_is_a_one_line_error(
    tmp_path, script, arguments, environ, message
):
    done = subprocess.run(
        [TOOLS / script, *arguments],
        env={**os.environ, **environ},
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2 and done.stdout == ''
    (line,) = done.stderr.splitlines()
    assert re.match(f'error: .*{message}', line)


@pytest.mark.parametrize('kind', ['train', 'test'])
def test_slurm_scripts_call_srun(toy, kind, monkeypatch):
    """With a stand-in for srun that prints its arguments."""
    bin_ = toy.folder / 'bin'
    bin_.mkdir(exist_ok=True)
    (bin_ / 'srun').write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    (bin_ / 'srun').chmod(0o755)
    monkeypatch.setenv('PATH', f'{bin_}:{os.environ["PATH"]}')
    monkeypatch.setenv('GPUS', '16')
    monkeypatch.setenv('SRUN_ARGS', '--quotatype=auto --exclusive')
    script = TOOLS / f'slurm_{kind}.sh'
    result = run_tool(
        script, 'part', 'job', 'a config.py', 'target', '--x', cwd=toy.folder
    )
    assert result.code == 0, result.output
    words = result.output.splitlines()
    loader = load_config('mmcim::_base_/pretrain_imagenet_224.py').train_dataloader
    assert f'--cpus-per-task={loader.num_workers + 1}' in words
    for word in ('part', '--ntasks=16', '--ntasks-per-node=8', '--gres=gpu:8'):
        assert word in words
    assert {'--quotatype=auto', '--exclusive', '--launcher=slurm', '--x'} <= set(words)
    assert words[words.index(str(TOOLS / f'{kind}.py')) + 1] == 'a config.py'

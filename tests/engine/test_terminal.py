# Copyright (c) mmcim contributors. All rights reserved.
"""What the screen shows of a whole run."""

import logging
import re

from mmcim.engine.run_record import describe_run
from mmcim.engine.terminal import start_summary, training_numbers, what_is_next


def make(make_runner, **kwargs):
    """A run of which a person sees something."""
    runner = make_runner(scores=[0.5, 0.75], **kwargs)
    for handler in runner.logger.handlers:
        handler.setLevel(logging.INFO)
    return runner


def test_a_run_in_a_pipe(make_runner, screen, tmp_path):
    shown = screen(False)
    runner = make(make_runner)
    runner.train()
    lines = [line for line in shown().splitlines() if 'warning: ' not in line]
    # Nothing but a summary stands before the first number.
    assert lines[0] == 'Training Line:'
    start = next(i for i, line in enumerate(lines) if 'images/s' in line)
    assert start < 12
    assert re.match(
        r'Training Line 4/4  loss \S+  ETA 0:00:00  \d+ images/s  epoch 2/2  lr 0.01$',
        lines[start],
    )
    validations = [line for line in lines if line.startswith('Validation at')]
    assert validations == [
        'Validation at iteration 2: score 0.5000',
        'Validation at iteration 4: score 0.7500',
    ]
    end = lines.index(f'Checkpoint: {tmp_path}/epoch_2.pth')
    assert lines[end - 1].startswith('Done: 4 iterations, logged in ')
    assert lines[end + 1 :] == []
    run = f'{tmp_path}/{runner.timestamp}.py {tmp_path}/epoch_2.pth'
    commands = [f'  mmcim test {run}', f'  mmcim report {tmp_path}']
    assert what_is_next(runner).splitlines() == ['Next:', *commands]
    # What mmengine says is in the log file.
    assert 'Checkpoints will be saved' not in shown()
    assert 'Checkpoints will be saved' in next(tmp_path.glob('*/*.log')).read_text()


def test_a_run_in_a_terminal(make_runner, screen):
    shown = screen(True)
    make(make_runner).train()
    assert re.search(r'Training Line .*1/4.* loss ', shown())
    assert re.search(r'Validating Line .*2/2', shown())
    # The line is gone in the end, and the cursor is back.
    assert shown().count('\x1b[?25l') == shown().count('\x1b[?25h')
    assert 'Training Line' not in shown().split('Done: 4 iterations')[1]


def test_start_summary(make_runner):
    runner = make(make_runner, train_cfg=dict(by_epoch=True, max_epochs=3))
    runner.model.line.bias.requires_grad = False
    runner._train_loop = runner.build_train_loop(runner._train_loop)
    runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    runner.record = describe_run(runner)
    text = start_summary(runner)
    assert 'Images: 8 to train on' in text
    assert 'Length: 6 iterations, 6 steps of the optimizer, 3.0 epochs' in text
    assert 'Parameters: 1 trained, 1 frozen' in text
    assert 'Effective batch: 4 = 1 process(es) x 4 x 1 accumulated' in text
    assert 'Device: cpu, float32' in text
    assert f'Work directory: {runner.work_dir}' in text
    assert what_is_next(runner) == ''
    runner.message_hub.update_scalar('train/loss', 2.0)
    runner.message_hub.update_scalar('train/time', 0.5)
    runner.message_hub.update_info('eta', 2.5)
    numbers = 'loss 2  ETA 0:00:02  8 images/s  epoch 1/3'
    assert training_numbers(runner) == numbers
    # Of layer-wise rates it is the config's, and not that of the first layer.
    runner.message_hub.update_scalar('train/base_lr', 0.01)
    runner.message_hub.update_scalar('train/lr', 0.0001)
    runner.message_hub.update_scalar('train/loss_pix', 1.5)
    assert training_numbers(runner) == f'{numbers}  lr 0.01  loss_pix 1.5'

# Copyright (c) mmcim contributors. All rights reserved.
"""Whether a checkpoint, or the weights that a run starts from, fit the run."""

import logging
from collections.abc import Mapping
from typing import Any

from mmengine.logging import print_log
from mmengine.runner import Runner
from torch import Tensor, nn

from ..checkpoints import BackboneFile, load_checkpoint, load_into
from ..checkpoints.layout import normalization, not_finite
from ..models.layers.momentum import momentum_encoder_of
from ..utils.errors import ConfigError
from .run_record import TENSORS_PER_GROUP, compare, describe_tokenizers, first_few
from .work_dir import another


def read_checkpoint(filename: str, resuming: bool) -> dict:
    """Read a checkpoint whose weights are finite.

    Args:
        filename: See :func:`mmcim.checkpoints.load_checkpoint`.
        resuming: Whether another checkpoint beside it would do.

    Raises:
        ConfigError: If it is missing or damaged, with the command that takes another one.
    """
    try:
        checkpoint = load_checkpoint(filename)
        if broken := first_few(not_finite(checkpoint.get('state_dict', checkpoint))):
            raise ConfigError(f'checkpoint {filename} is NaN or infinite in {broken}')
    except ConfigError as error:
        raise ConfigError(f'{error}{another(filename) * resuming}') from error
    return checkpoint


def check_resumable(runner: Runner, checkpoint: dict, filename: str) -> None:
    """Look whether a training can resume from a checkpoint.

    Args:
        runner: About to train, with its record.
        checkpoint: The content of the file.
        filename: The file.

    Raises:
        ConfigError: If there is no training in the file, or if settings that change the
            numbers differ and ``override`` is not set. Nothing overrides other parameter
            groups, which the optimizer's states are of.
    """
    needed = {'state_dict', 'optimizer', 'message_hub', 'meta', 'run'}
    if missing := needed - {*checkpoint, *checkpoint.get('meta', ())}:
        raise ConfigError(
            f'cannot resume from {filename}, which has no {", ".join(sorted(missing))}. '
            'Take another one, or start a new run from its weights by load_from'
        )
    trained, override = checkpoint['meta']['run'], runner.cfg.get('override')
    differences = compare(trained, runner.record, 'the checkpoint', 'this run')
    refused = [
        text
        for name, text in differences.items()
        if not (name.startswith('environment.') or override) or TENSORS_PER_GROUP in name
    ]
    if refused:
        raise ConfigError(
            f'cannot resume from {filename} with other settings: {first_few(refused)}. '
            'Restore them, keep those of this run by --override, or start a new run '
            'from its weights by load_from in another --work-dir'
        )
    for text in differences.values():
        runner.logger.warning(f'Resuming: {text}.')
    if lost := checkpoint['meta']['iter'] % runner.optim_wrapper._accumulative_counts:
        runner.logger.warning(f'The first step lacks the gradients of {lost} iterations.')


def override_settings(runner: Runner, checkpoint: dict) -> None:
    """Put a run's settings into the checkpoint that it is about to resume from.

    Optimizer states and weights stay. Schedules are as if they had been followed from
    the start, and the iteration is the one at the same fraction of the same epoch.

    Args:
        runner: With its record and that of the checkpoint.
        checkpoint: Changed in place.
    """
    meta = checkpoint['meta']
    if runner.cfg.get('randomness', {}).get('seed') is not None:
        meta['seed'] = None
    length = runner.record['train_dataloader']['iterations_per_epoch']
    if length:
        then = runner.loaded_record['train_dataloader']['iterations_per_epoch']
        done = meta['iter'] - meta['epoch'] * then
        meta['iter'] = meta['epoch'] * length + done * length // then
    _follow_schedules(runner, meta['iter'], length)
    saved = checkpoint['optimizer']
    kept = {name: saved[name] for name in ('state', 'loss_scaler') if name in saved}
    checkpoint['optimizer'] = {**runner.optim_wrapper.state_dict(), **kept}
    checkpoint.pop('param_schedulers', None)


def _follow_schedules(runner: Runner, num_iters: int, epoch_length: int | None) -> None:
    """Step the schedulers as training does, iterations first."""
    schedulers = sorted(runner.param_schedulers or (), key=lambda s: s.by_epoch)
    for iteration in range(1, num_iters + 1):
        ends_epoch = epoch_length and iteration % epoch_length == 0
        for scheduler in schedulers:
            if ends_epoch or not scheduler.by_epoch:
                scheduler.step()


def check_same_model(
    model: nn.Module, state_dict: dict[str, Tensor], filename: str
) -> None:
    """Compare a model with a checkpoint by names and shapes.

    Args:
        model: The model, not wrapped.
        state_dict: The tensors in the checkpoint.
        filename: The checkpoint, for the error.

    Raises:
        ConfigError: If any tensor differs.
    """
    own = {name: str(tuple(value.shape)) for name, value in model.state_dict().items()}
    stored = {
        name.removeprefix('module.'): str(tuple(getattr(value, 'shape', ())))
        for name, value in state_dict.items()
    }
    if differences := compare(stored, own, 'the checkpoint', 'the model'):
        raise ConfigError(
            f'checkpoint {filename} is not of the {type(model).__name__} of this config: '
            f'{len(differences)} tensors differ: {first_few(differences.values())}. Use '
            'its config, or load_from in another --work-dir'
        )


def check_same_inputs(
    model: nn.Module, meta: Mapping[str, Any], filename: str, override: bool = False
) -> None:
    """Compare what a model sees with what all of its weights have learnt from.

    That is the normalization of images, and the tokenizers that both have. Weights are
    those of a checkpoint, and those that :func:`mmcim.checkpoints.load_into` has loaded.

    Args:
        model: The model, not wrapped.
        meta: The checkpoint's; without a run record it is not compared.
        filename: The checkpoint, for the error.
        override: Whether other inputs are meant, and only warned about.

    Raises:
        ConfigError: If any differs.
    """
    sources: dict[str, dict[str, Any]] = {
        f'the weights of {name}': dict(zip(('mean', 'std'), module.normalization))
        for name, module in model.named_modules()
        if getattr(module, 'normalization', None)  # as load_into sets it
    }
    if record := meta.get('run'):
        sources[filename] = record['data_preprocessor'] | record.get('tokenizers', {})
    own = normalization(model) | describe_tokenizers(model)
    for origin, trained in sources.items():
        first = {name: trained[name] for name in own if name in trained}
        second = {name: own[name] for name in first}
        differences = compare(first, second, origin, 'this config')
        if not differences:
            continue
        text = (
            f'{origin} learnt from other inputs: {first_few(differences.values())}. Use '
            f'its tokenizer, data_preprocessor.mean={trained["mean"]} and '
            f'std={trained["std"]}; override=True allows others'
        )
        if not override:
            raise ConfigError(text)
        print_log(text, logger='current', level=logging.WARNING)


def begin_from_weights(model: nn.Module, filename: str, override: bool = False) -> None:
    """Load all of the backbone, with which a new run starts.

    Args:
        model: The model, not wrapped. The file need have only one backbone of a model
            with a momentum encoder.
        filename: Any file that :func:`mmcim.checkpoints.load_into` reads.
        override: See :func:`check_same_inputs`.

    Raises:
        ConfigError: If any of the backbone's tensors is not there, or if it was trained
            with another normalization or tokenizer.
    """
    file = BackboneFile.read(filename)
    report = load_into(model, file)
    if encoder := momentum_encoder_of(model):
        encoder.begin_from(model, report.missing)
    check_same_inputs(model, file.meta, filename, override)

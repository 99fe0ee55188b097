# Copyright (c) mmcim contributors. All rights reserved.
"""What a run compares with the one that it resumes."""

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from mmpretrain.registry import HOOKS

from ...models.tokenizers.base import BaseTokenizer
from ...utils.errors import ConfigError


@HOOKS.register_module()
class RunStateHook(Hook):
    """Store batch and tokenizers in checkpoints, and compare them on resume.

    ``checkpoint['meta']['run_state']`` gets, as plain values:

    * ``world_size``, ``batch_size``, ``accumulative_counts``: resuming with another
      number of images per iteration, or of iterations per step, is an error; with the
      same numbers on other processes, a warning.
    * ``tokenizers``: the ``identity`` of each frozen tokenizer in the model, since its
      weights are not in the checkpoint. Resuming with another one is an error.

    Gradients that had been accumulated for a step that was not yet made are lost on
    resume, with a warning.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._resumed: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what was stored; whether this is a resume is known later."""
        self._resumed = checkpoint.get('meta', {}).get('run_state')

    def before_train(self, runner: Runner) -> None:
        """Compare the run with the one that is resumed.

        Raises:
            ConfigError: If tokenizer or effective batch differ.
        """
        now = self._describe(runner)
        runner.logger.info(f'Effective batch: {_batch(now)}.')
        # With load_from, weights are loaded but no iteration has been done.
        if runner.iter == 0:
            return
        if self._resumed is None:
            runner.logger.warning(
                'The checkpoint has no run state: tokenizer and batch are not compared.'
            )
            return
        _check_tokenizers(self._resumed['tokenizers'], now['tokenizers'])
        self._check_batch(runner, self._resumed, now)
        counts = now['accumulative_counts']
        lost = runner.iter % counts
        if lost:
            runner.logger.warning(
                f'The checkpoint is {lost} iteration(s) after an optimizer step: what '
                'they accumulated is lost, and the first step has only the gradients of '
                f'the other {counts - lost}.'
            )

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store what identifies the run."""
        checkpoint['meta']['run_state'] = self._describe(runner)

    @staticmethod
    def _describe(runner: Runner) -> dict:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        return dict(
            world_size=runner.world_size,
            batch_size=runner.train_dataloader.batch_sampler.batch_size,
            accumulative_counts=runner.optim_wrapper._accumulative_counts,
            tokenizers={
                name: dict(module.identity)
                for name, module in model.named_modules()
                if isinstance(module, BaseTokenizer)
            },
        )

    @staticmethod
    def _check_batch(runner: Runner, then: dict, now: dict) -> None:
        # Schedules count iterations, so that each has to have as many images as before.
        size, counts = _per_iteration(now), now['accumulative_counts']
        if (size, counts) != (_per_iteration(then), then['accumulative_counts']):
            raise ConfigError(
                f'the checkpoint was trained with an effective batch of '
                f'{_batch(then)}, but this run has {_batch(now)}. Iterations, learning '
                'rate and schedule belong to both. Keep accumulative_counts, and the '
                'product of train_dataloader.batch_size and the number of processes, or '
                'start a new run from these weights by load_from instead of --resume.'
            )
        if then['world_size'] != now['world_size']:
            runner.logger.warning(
                f'Resuming a run of {then["world_size"]} process(es) with '
                f'{now["world_size"]}: the effective batch is the same, but masks and '
                'other numbers drawn on the device differ from an uninterrupted run.'
            )


def _per_iteration(state: dict) -> int:
    return state['world_size'] * state['batch_size']


def _batch(state: dict) -> str:
    total = _per_iteration(state) * state['accumulative_counts']
    return (
        f'{total} ({state["world_size"]} process(es) x '
        f'{state["batch_size"]} x {state["accumulative_counts"]} accumulated)'
    )


def _check_tokenizers(then: dict[str, dict], now: dict[str, dict]) -> None:
    """Compare the tokenizers of a checkpoint with the model's, by their weights."""
    for name in {**then, **now}:
        old, new = then.get(name), now.get(name)
        if old is None or new is None or old['sha256'] != new['sha256']:
            raise ConfigError(
                'the checkpoint was trained with another tokenizer than the model has, '
                'so that its tokens mean something else.\n'
                f'  checkpoint: {_tokenizer(old)}\n'
                f'  config:     {_tokenizer(new)}\n'
                f'Let model.{name}.checkpoint name the first one, or begin a new run '
                'from these weights by load_from instead of --resume.'
            )


def _tokenizer(identity: dict | None) -> str:
    if identity is None:
        return 'none'
    return '{type} from {source}, sha256 {sha256}'.format(**identity)

# Copyright (c) mmcim contributors. All rights reserved.
"""What a run has to know about itself to go on after an interruption."""

from mmengine.dist import all_gather_object, is_distributed
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import IterBasedTrainLoop, Runner, set_random_seed
from mmpretrain.registry import HOOKS

from ...models.tokenizers.base import BaseTokenizer
from ...utils.errors import ConfigError
from ..rng import get_rng_state, set_rng_state
from .safe_checkpoint import SafeCheckpointHook


@HOOKS.register_module()
class RunStateHook(Hook):
    """Store random states, batch and tokenizers; compare and restore them on resume.

    ``checkpoint['meta']['run_state']`` gets, as plain values and tensors:

    * ``rng``: for each process the state of its random generators. With the last
      checkpoint of an epoch, a resumed run is bit-identical to one that was not
      interrupted, on a CPU or with ``randomness.deterministic=True``. After a checkpoint
      within an epoch, the order of the data and the main generators go on, but
      data-loader workers draw new augmentations. Gradients that had been accumulated
      for a step that was not yet made are lost, with a warning.
    * ``sampler_seed``: the seed of the order of the data.
    * ``world_size``, ``batch_size``, ``accumulative_counts``: resuming with another
      product is an error; with the same product of other processes, a warning.
    * ``tokenizers``: the ``identity`` of each frozen tokenizer in the model, since its
      weights are not in the checkpoint. Resuming with another one is an error.

    Validation leaves the random states of the training as they were.
    """

    # Before other hooks draw random numbers.
    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._resumed: dict | None = None
        self._gathered: list[dict] | None = None
        self._before_val: dict | None = None

    def after_load_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Keep what was stored; whether this is a resume is known later."""
        self._resumed = checkpoint.get('meta', {}).get('run_state')

    def before_train(self, runner: Runner) -> None:
        """Compare the run with the one that is resumed.

        Raises:
            ConfigError: If tokenizer or effective batch differ, or if there is no hook
                that lets all processes take part in saving.
        """
        if is_distributed() and not any(
            isinstance(hook, SafeCheckpointHook) for hook in runner.hooks
        ):
            raise ConfigError(
                'RunStateHook stores the random states of all processes and needs '
                "default_hooks.checkpoint.type='SafeCheckpointHook'"
            )
        now = self._describe(runner)
        runner.logger.info(f'Effective batch: {_batch(now)}.')
        # With load_from, weights are loaded but no iteration has been done.
        if runner.iter == 0:
            self._resumed = None
        elif self._resumed is None:
            runner.logger.warning(
                'The checkpoint has no run state: random numbers do not go on where '
                'they stopped, and tokenizer and batch are not compared.'
            )
        else:
            _check_tokenizers(self._resumed['tokenizers'], now['tokenizers'])
            self._check_batch(runner, self._resumed, now)
            counts = now['accumulative_counts']
            lost = runner.iter % counts
            if lost:
                runner.logger.warning(
                    f'The checkpoint is {lost} iteration(s) after an optimizer step: '
                    'what they accumulated is lost, and the first step has only the '
                    f'gradients of the other {counts - lost}.'
                )

    def before_train_epoch(self, runner: Runner) -> None:
        """Restore the random states right before the first data are drawn."""
        state, self._resumed = self._resumed, None
        if state is None:
            return
        _sampler(runner).seed = state['sampler_seed']
        if isinstance(runner.train_loop, IterBasedTrainLoop):
            self._start_loader(runner)
        if len(state['rng']) == runner.world_size:
            set_rng_state(state['rng'][runner.rank])
        else:
            # No states for these processes; at least do not begin at the start again.
            set_random_seed((runner.seed + runner.iter) % 2**32, diff_rank_seed=True)

    def before_val(self, runner: Runner) -> None:
        """Keep the random states of the training."""
        self._before_val = get_rng_state()

    def after_val(self, runner: Runner) -> None:
        """Restore the random states of the training."""
        set_rng_state(self._before_val)
        self._before_val = None

    def gather_run_state(self, runner: Runner) -> None:
        """Collect the random states of all processes before one of them saves."""
        self._gathered = all_gather_object(self._before_val or get_rng_state())

    def before_save_checkpoint(self, runner: Runner, checkpoint: dict) -> None:
        """Store the run's state; without an optimizer, only what identifies the run."""
        state = self._describe(runner)
        if 'optimizer' in checkpoint:
            state['rng'] = self._gathered or [self._before_val or get_rng_state()]
            self._gathered = None
        checkpoint['meta']['run_state'] = state

    @staticmethod
    def _start_loader(runner: Runner) -> None:
        """Go to the place in the data, and start the loader, before states are set.

        Starting a loader draws a number, which the interrupted run did at its beginning;
        the loop itself would do so afterwards.
        """
        iterator = runner.train_loop.dataloader_iterator
        iterator.skip_iter(runner.iter)
        iterator._ensure_iterator()
        iterator.skip_iter = lambda num_iters: None

    @staticmethod
    def _describe(runner: Runner) -> dict:
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        return dict(
            world_size=runner.world_size,
            batch_size=runner.train_dataloader.batch_sampler.batch_size,
            accumulative_counts=runner.optim_wrapper._accumulative_counts,
            sampler_seed=getattr(_sampler(runner), 'seed', None),
            tokenizers={
                name: dict(module.identity)
                for name, module in model.named_modules()
                if isinstance(module, BaseTokenizer)
            },
        )

    @staticmethod
    def _check_batch(runner: Runner, then: dict, now: dict) -> None:
        if _effective(then) != _effective(now):
            raise ConfigError(
                f'the checkpoint was trained with an effective batch of '
                f'{_batch(then)}, but this run has {_batch(now)}. Learning rate and '
                'schedule belong to the batch. Keep the product by '
                'train_dataloader.batch_size, optim_wrapper.accumulative_counts or the '
                'number of processes, or begin a new run from these weights by '
                'load_from instead of --resume.'
            )
        if then['world_size'] != now['world_size']:
            runner.logger.warning(
                f'Resuming a run of {then["world_size"]} process(es) with '
                f'{now["world_size"]}: the effective batch is the same, but random '
                'numbers differ from a run that was not interrupted.'
            )


def _sampler(runner: Runner) -> object:
    return runner.train_dataloader.batch_sampler.sampler


def _effective(state: dict) -> int:
    return state['world_size'] * state['batch_size'] * state['accumulative_counts']


def _batch(state: dict) -> str:
    return (
        f'{_effective(state)} ({state["world_size"]} process(es) x '
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

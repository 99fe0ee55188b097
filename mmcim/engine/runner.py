# Copyright (c) mmcim contributors. All rights reserved.
"""The runner of all configs: resumes exactly, and loads all of a checkpoint or fails."""

from contextlib import ExitStack
from functools import partialmethod
from itertools import takewhile
from os.path import dirname, join, realpath
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import is_distributed, is_main_process, master_only
from mmengine.logging import MMLogger
from mmengine.model import BaseDataPreprocessor
from mmengine.optim import OptimWrapper
from mmengine.registry import RUNNERS
from mmengine.runner import BaseLoop, Runner, runner
from torch import nn
from torch.utils.data import DataLoader

from ..checkpoints import adopt_pretrained
from ..models.layers.momentum import momentum_encoder_of
from ..utils.building import check_keys, explain_build_errors
from ..utils.precision import set_tf32
from ..utils.terminal import remove_lines, show_on_screen
from . import checks, data_parallel, plan
from .activation_checkpointing import checkpoint_activations
from .compiling import compile_networks
from .data_parallel import begin_loader_worker, check_processes, together
from .events import EventsHook
from .hooks import MomentumUpdateHook
from .interruption import InterruptionHook
from .lr_scaling import lr_ratio, scaled_schedulers
from .run_record import describe_run, unwrapped
from .seeding import SeededDataset, SeededSampler, SeedHook
from .terminal import TerminalHook, start_summary
from .work_dir import begin

_CHECKPOINTING = 'turn_on_activation_checkpointing'
# Settings of data loaders that torch refuses without worker processes.
_OF_WORKERS = {'multiprocessing_context', 'persistent_workers', 'prefetch_factor'}
_OF_WORKERS |= {'timeout'}


@RUNNERS.register_module()
class StrictRunner(Runner):
    """mmengine's runner with a contract about checkpoints, settings and random numbers.

    Chosen by ``runner_type = 'StrictRunner'`` in a config, and then used by the tools of
    mmpretrain as well.

    - Random numbers follow from seed, iteration, sample and process
      (:mod:`mmcim.engine.seeding`): a run resumes exactly, also within an epoch.
    - ``resume`` and tests load all of the model from a checkpoint, or fail. Settings that
      differ from the checkpoint's are an error (:mod:`mmcim.engine.run_record`), unless
      ``override = True`` in the config says that the config's are meant.
    - A training with ``load_from`` loads all of the backbone, or fails; see
      :func:`mmcim.checkpoints.load_into`.
    - ``auto_scale_lr`` counts accumulated batches and scales whole schedules.
    - A momentum encoder follows the model after each optimizer step.
    - ``activation_checkpointing`` names sub-models whose layers are recomputed in the
      backward pass (:mod:`mmcim.engine.activation_checkpointing`).
    - The screen shows what a person wants to know (:mod:`mmcim.engine.terminal`).
    - Several processes run on CPUs as on GPUs; they stop if their settings differ.
    - Checkpoints are read as data; none of their contents is executed.
    - A training owns its work directory (:mod:`mmcim.engine.work_dir`), writes what
      happens into it (:mod:`mmcim.engine.events`), and leaves it in order after a signal
      (:mod:`mmcim.engine.interruption`).
    - A process that waits for another one, or for a worker of a data loader, fails after
      ``env_cfg.dist_cfg.timeout`` seconds.

    See :class:`mmengine.runner.Runner` for the arguments.

    Attributes:
        record: Of a training, see :func:`mmcim.engine.run_record.describe_run`.
        loaded_record: That of the training that is resumed or tested, if it has one.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self.record: dict[str, Any] = {}
        self.loaded_record: dict[str, Any] | None = None
        super().__init__(*args, **kwargs)
        self._override = self.cfg.get('override', False)
        self.register_hook(SeedHook())
        self.register_hook(TerminalHook())
        if momentum_encoder_of(unwrapped(self.model)):
            self.register_hook(MomentumUpdateHook())
        self._interruption = InterruptionHook(self._timeout)
        self._events = EventsHook(self)
        for hook in (self._events, self._interruption):
            self.register_hook(hook)

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build the runner of a config, whose ``PretrainedBackbone`` becomes a network.

        Raises:
            ConfigError: If a key is misspelt, or if the backbone's file does not fit.
            BuildError: For every error of what is built.
        """
        adopt_pretrained(cfg)
        check_keys(cfg)
        with explain_build_errors(cfg):
            return super().from_cfg(cfg)

    def _build(self, part: str, key: str, *args: Any) -> Any:
        """Build a part that is only built in training or test; errors name its key."""
        with explain_build_errors(self.cfg, key):
            return getattr(super(), f'build_{part}')(*args)

    build_train_loop = partialmethod(_build, 'train_loop', 'train_dataloader')
    build_val_loop = partialmethod(_build, 'val_loop', 'val_dataloader')
    build_test_loop = partialmethod(_build, 'test_loop', 'test_dataloader')
    build_optim_wrapper = partialmethod(_build, 'optim_wrapper', 'optim_wrapper')
    build_param_scheduler = partialmethod(_build, 'param_scheduler', 'param_scheduler')

    def build_logger(self, *args: Any, **kwargs: Any) -> MMLogger:
        """Build a logger that writes all to a file, and to the screen what matters."""
        logger = super().build_logger(*args, **kwargs)
        show_on_screen(logger)
        return logger

    def setup_env(self, env_cfg: dict) -> None:
        """Start the process group, also on CPUs, and settle how long anything waits."""
        data_parallel.refuse_unsupported(self.cfg, self.launcher)
        set_tf32(env_cfg.get('tf32'))
        self._timeout = data_parallel.set_timeout(self, env_cfg.get('dist_cfg', {}))
        if self.distributed and not (is_distributed() or torch.cuda.is_available()):
            # With gloo; mmengine would select a GPU.
            torch.distributed.init_process_group('gloo', timeout=self._timeout)
        super().setup_env(env_cfg)

    def set_randomness(
        self, seed: int | None, diff_rank_seed: bool = False, deterministic: bool = False
    ) -> None:
        """Give all processes the same seed; :class:`SeedHook` adds the rank."""
        super().set_randomness(seed, deterministic=deterministic)

    def wrap_model(self, model_wrapper_cfg: dict | None, model: nn.Module) -> nn.Module:
        """Move the model to its device, and wrap it where there are several processes.

        With ``channels_last = True`` in the config the channels of images and feature
        maps are innermost in memory. Batches are copied to a GPU without waiting.
        """
        if self.cfg.get('channels_last'):
            model = model.to(memory_format=torch.channels_last)
        for module in model.modules() if torch.cuda.is_available() else ():
            if isinstance(module, BaseDataPreprocessor):
                module._non_blocking = True
        if self.distributed:
            return data_parallel.wrap_distributed(model.to(get_device()), self.cfg)
        return super().wrap_model(None, model)

    def _maybe_compile(self, target: str) -> None:
        """Compile network by network, not mmengine's whole ``target``."""
        with explain_build_errors(self.cfg, 'compile'):
            compile_networks(unwrapped(self.model), self.cfg.get('compile'))

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict, seed: int = 0, diff_rank_seed: bool = False
    ) -> DataLoader:
        """Build a data loader whose samples are seeded one by one.

        Args:
            dataloader: The data loader, which is returned as it is, or its config.
            seed: Of order and samples, the same in all processes.
            diff_rank_seed: Has no effect, see :meth:`set_randomness`.
        """
        if isinstance(dataloader, dict) and not dataloader.get('num_workers'):
            dataloader = {k: v for k, v in dataloader.items() if k not in _OF_WORKERS}
        if isinstance(dataloader, dict) and isinstance(dataloader['sampler'], dict):
            sampler = dict(type=SeededSampler, sampler=dataloader['sampler'])
            dataset = dict(type=SeededDataset, dataset=dataloader['dataset'])
            dataloader = {**dataloader, 'sampler': sampler, 'dataset': dataset}
            dataloader.setdefault('worker_init_fn', dict(type=begin_loader_worker))
            dataloader.setdefault('pin_memory', torch.cuda.is_available())
        return Runner.build_dataloader(dataloader, seed=seed)

    def scale_lr(
        self, optim_wrapper: OptimWrapper, auto_scale_lr: dict | None = None
    ) -> None:
        """Scale the learning rate and its schedule to the effective batch.

        Raises:
            BuildError: If there are several optimizers, or for an unknown setting.
        """
        with explain_build_errors(self.cfg, 'auto_scale_lr'):
            batch = self.world_size * self.train_dataloader.batch_sampler.batch_size
            batch *= optim_wrapper._accumulative_counts
            ratio = lr_ratio(batch, **(auto_scale_lr or {}))
        for settings in (optim_wrapper.defaults, *optim_wrapper.param_groups):
            settings['lr'] *= ratio
        self.param_schedulers = scaled_schedulers(self.param_schedulers, ratio)  # type: ignore[has-type]

    def dump_config(self) -> None:
        """Leave it to :meth:`train`: the work directory may be another run's."""

    @master_only
    def _record_config(self) -> None:
        """Write the complete config; it keeps the comments at the top of the file."""
        source = Path(self.cfg.filename or '')
        # A config from a string names a file that is gone.
        text = source.read_text('utf-8') if source.is_file() else ''
        lines = text.splitlines(keepends=True)
        comment = ''.join(takewhile(lambda line: line.startswith('#'), lines))
        super().dump_config()
        if comment:
            path = Path(self.work_dir, source.name)
            path.write_text(comment + path.read_text('utf-8'), encoding='utf-8')

    def train(self) -> nn.Module:
        """Train; ``resume`` alone takes the latest checkpoint, if there is one."""
        with ExitStack() as stack:
            stack.callback(remove_lines)  # before an error is printed
            begin(self, stack)
            self._record_config()
            with explain_build_errors(self.cfg, 'activation_checkpointing'):
                names = self.cfg.get('activation_checkpointing') or ()
                checkpoint_activations(unwrapped(self.model), names)
            # mmengine would recompute whole sub-models, the reentrant way.
            stack.enter_context(patch.object(runner, _CHECKPOINTING, lambda *_: None))
            stack.enter_context(self._events.listen())
            stack.enter_context(self._interruption.listen())
            return super().train()

    @together()
    def _init_model_weights(self) -> None:
        """Initialise the weights, unless a checkpoint has all of them."""
        if not self._resume:
            with explain_build_errors(self.cfg, 'model'):
                super()._init_model_weights()
                checks.check_same_inputs(unwrapped(self.model), {}, '', self._override)

    def load_or_resume(self) -> None:
        """Load what the run starts from; the processes stop if they differ.

        A test without a checkpoint takes the weights that ``init_cfg`` names.
        """
        if self._has_loaded:  # type: ignore[has-type]
            return
        training = isinstance(self._train_loop, BaseLoop)
        if training:
            self.record = describe_run(self)
        with together():
            plan.check_plan(self)
            plan.check_data(self)
        if training:
            plan.check_monitored(self)
        elif self._load_from is None:
            self._init_model_weights()
        data_parallel.collect_through_group(self._val_loop, self._test_loop)
        super().load_or_resume()
        self._has_loaded = True
        plan.compare_data(self, self.record or self.loaded_record)
        if training:
            check_processes({**self.record, 'resumed_iteration': self.iter})
            is_done = self.iter >= self.max_iters
            done = f'Nothing to do: {self._load_from} is from a finished run.'
            self.logger.info(done if is_done else start_summary(self))

    @together()
    def load_checkpoint(self, filename: str, *args: Any, **kwargs: Any) -> dict | None:
        """Load all that is needed, or fail.

        Args:
            filename: Local file or URL, which is read to the CPU.
            *args: Of :class:`mmengine.runner.Runner`; without effect.
            **kwargs: Likewise.

        Returns:
            The content of the checkpoint; None where only weights are taken out of it.

        Raises:
            ConfigError: If tensors are missing, surplus or of other shapes, or settings
                differ from those that the checkpoint was trained with.
        """
        model = unwrapped(self.model)
        training = isinstance(self._train_loop, BaseLoop)
        if training and not self._resume:
            with explain_build_errors(self.cfg, 'load_from'):
                checks.begin_from_weights(model, filename, self._override)
            return None
        checkpoint = checks.read_checkpoint(filename, training)
        state = checkpoint.get('state_dict', checkpoint)
        meta = checkpoint.get('meta', {})
        self.loaded_record = meta.get('run')
        checks.check_same_model(model, state, filename)
        if training:
            checks.check_resumable(self, checkpoint, filename)
            if realpath(dirname(filename)) == realpath(self.work_dir):
                self.call_hook('before_resume', checkpoint=checkpoint, path=filename)
            if self._override:
                checks.override_settings(self, checkpoint)
        else:
            checks.check_same_inputs(model, meta, filename, self._override)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        model.load_state_dict({k.removeprefix('module.'): v for k, v in state.items()})
        self._has_loaded = True
        self.logger.info(f'Loaded all of the model from {filename}.')
        return checkpoint

    def save_checkpoint(
        self, out_dir: str, filename: str, *args: Any, meta: dict, **kwargs: Any
    ) -> None:
        """Save a checkpoint with the run record.

        Other hooks may have a method ``after_save_checkpoint(runner, path)``, which the
        main process calls.
        """
        meta = {**meta, 'run': self.record}
        self.call_hook('before_checkpoint')
        super().save_checkpoint(out_dir, filename, *args, meta=meta, **kwargs)
        if is_main_process():
            self.call_hook('after_save_checkpoint', path=join(out_dir, filename))

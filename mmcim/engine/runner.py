# Copyright (c) mmcim contributors. All rights reserved.
"""The runner of all configs: resumes exactly, and loads all of a checkpoint or fails."""

from collections.abc import Callable
from typing import Any

from mmengine.dist import get_rank, sync_random_seed
from mmengine.model import BaseTTAModel, is_model_wrapper
from mmengine.registry import LOOPS, RUNNERS
from mmengine.runner import BaseLoop, EpochBasedTrainLoop, Runner
from torch import Tensor, nn
from torch.utils.data import DataLoader

from ..checkpoints import load_checkpoint, load_into
from ..utils.building import ConfigKeyErrors
from ..utils.errors import ConfigError
from .seeding import SeededDataset, SeededSampler, SeedHook, base_seed


@RUNNERS.register_module()
class StrictRunner(ConfigKeyErrors, Runner):
    """mmengine's runner with a contract about checkpoints and random numbers.

    Chosen by ``runner_type = 'StrictRunner'`` in a config, and then used by the tools of
    mmpretrain as well.

    - Random numbers follow from seed, iteration, sample and process
      (:mod:`mmcim.engine.seeding`): a run resumes exactly, also within an epoch.
    - ``resume`` and tests load all of the model from a checkpoint, or fail.
    - A training with ``load_from`` loads all of the backbone, or fails; see
      :func:`mmcim.checkpoints.load_into`. A momentum encoder begins with the
      first of its steps.
    - Checkpoints are read as data; none of their contents is executed.

    Args:
        *args: See :class:`mmengine.runner.Runner`.
        **kwargs: Likewise.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.register_hook(SeedHook())

    @staticmethod
    def build_dataloader(
        dataloader: DataLoader | dict,
        seed: int | None = None,
        diff_rank_seed: bool = False,
    ) -> DataLoader:
        """Build a data loader whose samples are seeded one by one.

        Args:
            dataloader: The data loader, which is returned as it is, or its config.
            seed: That of this process.
            diff_rank_seed: Whether other processes have others: ``seed`` is then larger
                by the rank.
        """
        if isinstance(dataloader, dict) and isinstance(dataloader['sampler'], dict):
            seed = (
                sync_random_seed() if seed is None else seed - get_rank() * diff_rank_seed
            )
            sampler = dict(type=SeededSampler, sampler=dataloader['sampler'])
            dataset = dict(type=SeededDataset, dataset=dataloader['dataset'])
            dataloader = {**dataloader, 'sampler': sampler, 'dataset': dataset}
        return Runner.build_dataloader(dataloader, seed=seed)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop; one of epochs can begin within an epoch."""
        if isinstance(loop, dict):
            kind = 'EpochBasedTrainLoop' if loop.get('by_epoch', True) else None
            if loop.get('type', kind) in ('EpochBasedTrainLoop', EpochBasedTrainLoop):
                loop = {**loop, 'type': 'ResumableEpochLoop'}
                loop.pop('by_epoch', None)
        return super().build_train_loop(loop)

    def resume(self, filename: str, *args: Any, **kwargs: Any) -> None:
        """Resume, with the seed of the run that is resumed."""
        super().resume(filename, *args, **kwargs)
        for loop in (self._train_loop, self._val_loop):
            if isinstance(loop, BaseLoop):
                sampler = loop.dataloader.batch_sampler.sampler
                if isinstance(sampler, SeededSampler):
                    sampler.set_seed(base_seed(self))

    def load_checkpoint(
        self, filename: str, map_location: str | Callable = 'cpu', **kwargs: Any
    ) -> dict | None:
        """Load all that is needed, or fail.

        Args:
            filename: Local file or URL.
            map_location: See ``torch.load``.
            **kwargs: See :class:`mmengine.runner.Runner`.

        Returns:
            The content of the checkpoint; None where only weights are taken out of it.

        Raises:
            ConfigError: If tensors are missing, surplus or of other shapes.
        """
        model = self.model
        while is_model_wrapper(model) or isinstance(model, BaseTTAModel):
            model = model.module
        if isinstance(self._train_loop, BaseLoop) and not self._resume:
            begin_from_weights(model, filename)
            return None
        checkpoint = load_checkpoint(filename, map_location)
        self.call_hook('after_load_checkpoint', checkpoint=checkpoint)
        state = checkpoint.get('state_dict', checkpoint)
        state = {name.removeprefix('module.'): value for name, value in state.items()}
        check_same_model(model, state, filename)
        model.load_state_dict(state)
        self._has_loaded = True
        self.logger.info(f'Loaded all of the model from {filename}.')
        return checkpoint


@LOOPS.register_module()
class ResumableEpochLoop(EpochBasedTrainLoop):
    """A loop of epochs that goes on where a checkpoint was written within an epoch."""

    def run_epoch(self) -> None:
        """Take the iterations of an epoch that have not been done yet."""
        done = self._iter - self._epoch * len(self.dataloader)
        batches = self.dataloader.batch_sampler
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        batches.sampler.leave_out(done * batches.batch_size)
        for index, data_batch in enumerate(self.dataloader, start=done):
            self.run_iter(index, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1


def begin_from_weights(model: nn.Module, filename: str) -> None:
    """Load all of the backbone, with which a new run begins.

    Args:
        model: The model, not wrapped. Its momentum encoder, if it has one, begins with
            the first of its steps.
        filename: Any file that :func:`mmcim.checkpoints.load_into` reads.

    Raises:
        ConfigError: If any of the backbone's tensors is not there.
    """
    report = load_into(model, filename)
    if hasattr(model, 'momentum_encoder'):
        model.momentum_encoder.begin_from(model, report.missing)


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
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    stored = {n: tuple(getattr(v, 'shape', ())) for n, v in state_dict.items()}
    differ = [name for name in {**stored, **own} if stored.get(name) != own.get(name)]
    if differ:
        shapes = [
            f'{name}: {stored.get(name, "nothing")} in the checkpoint, '
            f'{own.get(name, "nothing")} in the model'
            for name in differ[:3]
        ]
        raise ConfigError(
            f'checkpoint {filename} is not of the {type(model).__name__} of this config: '
            f'{len(differ)} tensors differ\n  '
            + '\n  '.join([*shapes, '...'][: len(differ)])
            + '\nUse the config that it was trained with, or start a new run from its '
            'weights by load_from with another --work-dir'
        )

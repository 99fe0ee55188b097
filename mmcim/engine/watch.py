# Copyright (c) mmcim contributors. All rights reserved.
"""Images and numbers that show, while a model trains, whether it learns."""

import os
import time
from typing import Any

import numpy as np
import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook
from mmengine.logging import MessageHub
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import nn
from torch.nn.utils import get_total_norm

from ..apis.features import extract_features
from ..checkpoints.layout import backbone_prefix, normalization
from ..datasets.image_files import list_images
from ..datasets.image_folder import is_val
from ..evaluation.frozen_features import linear_probe
from ..visualization import draw_panels, make_panels
from .diagnostics import diagnose
from .hooks.runtime_info import log_interval
from .run_record import unwrapped
from .seeding import fixed_batch, seed_generators

_MAX_SIDE = 128  # pixels of an image that is drawn
_SEED = 0  # of masks and samples, the same each time


@HOOKS.register_module()
class WatchHook(Hook):
    """Log what a person has to see of a training; it changes nothing in the weights.

    Through mmengine's visualizer, in iteration 0, at each interval and at the end of a
    pre-training:

    - the image ``panels``: fixed images of the training set on their way through the
      training, see :func:`mmcim.visualization.make_panels`;
    - ``held_out/...``: losses and diagnostics on fixed images of the ``test_dataloader``,
      see :func:`mmcim.engine.diagnostics.diagnose`;
    - ``probe/top1`` and ``probe/top5``, in percent, of logistic regression on features of
      a labelled folder, see :func:`probe`.

    Of any training, as often as :class:`mmengine.hooks.LoggerHook` logs:
    ``images_per_s``; ``data_wait``, the fraction of the time in which the model waits for
    data; and ``grad_norm`` where no gradients are clipped, which would log it.

    Args:
        interval: Iterations between two looks.
        num_images: Images in ``panels``; 0 for none.
        num_held_out: Images of the held-out numbers, of all processes; 0 for none.
        probe_root: A folder of ``<class>/*`` images, for the probe.
        probe_images: Of it, spread over the classes, at most so many are used.
    """

    def __init__(
        self,
        interval: int = 1000,
        num_images: int = 4,
        num_held_out: int = 128,
        probe_root: str | None = None,
        probe_images: int = 1000,
    ) -> None:
        self.interval = interval
        self.num_images = num_images
        self.num_held_out = num_held_out
        self.probe_root = probe_root
        self.probe_images = probe_images
        self._shown: dict | None = None
        self._held_out: dict | None = None
        self._norm_is_due = False
        self._seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        """Choose the images; look at a model that has learned nothing yet."""
        if not runner.optim_wrapper.clip_grad_kwargs:
            optimizer = runner.optim_wrapper.optimizer
            optimizer.register_step_pre_hook(self._log_norm)
        self._start = time.monotonic()
        if not isinstance(unwrapped(runner.model), BaseSelfSupervisor):
            return
        if self.num_images and is_main_process():
            self._shown = fixed_batch(runner.train_dataloader, self.num_images)
        if self.num_held_out and runner.cfg.get('test_dataloader'):
            self._held_out = self._read_held_out(runner)
        if runner.iter == 0:
            self._look(runner, 0)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Let the next step of the optimizer log its gradients' norm, if that is due."""
        self._norm_is_due |= self.every_n_train_iters(runner, log_interval(runner))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Log the speed; look, if that is due."""
        hub, interval = runner.message_hub, log_interval(runner)
        if self.every_n_train_iters(runner, interval):
            images = runner.record['train_dataloader']['images_per_iteration']
            names = ('train/time', 'train/data_time')
            seconds, wait = (hub.get_scalar(name).mean(interval) for name in names)
            hub.update_scalar('train/images_per_s', images / seconds)
            hub.update_scalar('train/data_wait', wait / seconds)
        is_last = self.is_last_train_iter(runner)
        if is_last or self.every_n_train_iters(runner, self.interval):
            self._look(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Report what the looks have cost."""
        if self._seconds:
            cost = self._seconds / (time.monotonic() - self._start)
            runner.logger.info(
                f'Panels, held-out numbers and probe took {cost:.1%} of it'
            )

    def _look(self, runner: Runner, step: int) -> None:
        start, model = time.monotonic(), unwrapped(runner.model)
        was_training = model.training
        model.eval()
        seed_generators(_SEED)  # SeedHook seeds the next iteration
        with torch.no_grad():
            if self._shown:
                data = model.data_preprocessor(self._shown, training=True)
                images, legend = make_panels(model, data['inputs'])
                title = f'{type(model).__name__}, iteration {step}'
                image = draw_panels(images, title, legend, max_side=_MAX_SIDE)
                runner.visualizer.add_image('panels', image, step)
            numbers = {}
            if self._held_out:
                found = diagnose(model, self._held_out)
                numbers = {f'held_out/{name}': value for name, value in found.items()}
            if self.probe_root and backbone_prefix(model) and is_main_process():
                numbers |= self._probe(runner, model, self.probe_root, step)
            if numbers:
                runner.visualizer.add_scalars(numbers, step)
        model.train(was_training)
        self._seconds += time.monotonic() - start

    def _probe(self, runner: Runner, model: nn.Module, folder: str, step: int) -> dict:
        size = runner.record['train_dataloader']['dataset']['image_size']
        found = probe(model, folder, self.probe_images, size and tuple(size))
        numbers = {f'probe/{name}': value for name, value in found.items()}
        text = ', '.join(f'{name} {value:.1f} %' for name, value in found.items())
        extra = dict(event='probe', metrics=numbers)
        runner.logger.info(f'Probe after {step} iterations: {text}', extra=extra)
        return numbers

    def _read_held_out(self, runner: Runner) -> dict | None:
        """Read this process's part; without all of them, nobody has any."""
        config = {**runner.cfg.test_dataloader, 'num_workers': 0}
        try:
            loader = runner.build_dataloader(config, _SEED)
            batch, problem = fixed_batch(loader, self.num_held_out, shard=True), None
        except (ValueError, OSError) as error:
            batch, problem = None, str(error)
        problems = list(filter(None, all_gather_object(problem)))
        if problems:
            runner.logger.warning(f'No numbers on held-out images: {problems[0]}')
        return None if problems else batch

    def _log_norm(self, optimizer: torch.optim.Optimizer, *args: Any) -> None:
        if self._norm_is_due:
            groups = optimizer.param_groups
            grads = [p.grad for group in groups for p in group['params']]
            norm = get_total_norm([grad for grad in grads if grad is not None])
            MessageHub.get_current_instance().update_scalar('train/grad_norm', norm)
            self._norm_is_due = False


def probe(
    model: nn.Module, folder: str, num: int, size: tuple[int, int] | None
) -> dict[str, float]:
    """Fit logistic regression on features of the backbone as it is exported.

    Args:
        model: A pre-training, in eval mode, not wrapped.
        folder: Of images in ``<class>/``; :func:`mmcim.datasets.image_folder.is_val` of a
            fifth of them is for validation.
        num: Images at most, spread over the folder.
        size: Height and width of the images; None for the backbone's own.

    Returns:
        ``top1`` and ``top5``, in percent.
    """
    backbone: Any = model.get_submodule(str(backbone_prefix(model)).rstrip('.'))
    backbone.normalization = tuple(normalization(model).values())
    files = list_images(folder, by_class=True).files
    files = files[:: -(-len(files) // num)]
    paths = [os.path.join(folder, file) for file in files]
    features = extract_features(backbone, paths, img_size=size).numpy()
    names = [file.split(os.sep)[0] for file in files]
    labels = np.unique(names, return_inverse=True)[1]
    val = np.array([is_val(file) for file in files])
    return linear_probe(features[~val], labels[~val], features[val], labels[val])

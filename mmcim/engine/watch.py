# Copyright (c) mmcim contributors. All rights reserved.
"""Images and numbers that show, while a model trains, whether it learns."""

import time
from collections.abc import Callable
from typing import Any

import torch
from mmengine.dist import all_gather_object, is_main_process
from mmengine.hooks import Hook, IterTimerHook
from mmengine.registry import HOOKS
from mmengine.runner import Runner
from mmpretrain.models.selfsup import BaseSelfSupervisor
from torch import Tensor
from torch.nn.utils import get_total_norm
from torch.utils.hooks import RemovableHandle

from ..checkpoints.layout import backbone_prefix
from ..visualization import draw_panels, make_panels
from .diagnostics import diagnose
from .hooks.runtime_info import log_interval
from .online_probe import OnlineProbe
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
      a labelled folder, see :class:`mmcim.engine.online_probe.OnlineProbe`.

    What cannot be read is left out with a warning.

    Of any training, every so many iterations as :class:`mmengine.hooks.LoggerHook` has as
    its interval: ``images_per_s``; ``data_wait``, the fraction of the time in which the
    model waits for data; and ``grad_norm`` where gradients are not clipped by their norm,
    which would log it.

    Args:
        interval: Iterations between two looks.
        num_images: Images in ``panels``; 0 for none.
        num_held_out: Images of the held-out numbers, of all processes; 0 for none.
        probe_root: A folder of ``<class>/*`` images, for the probe.
        probe_images: Of it, spread over the classes, at most so many are used.

    Raises:
        ValueError: If ``interval`` is no number.
    """

    def __init__(
        self,
        interval: int = 1000,
        num_images: int = 4,
        num_held_out: int = 128,
        probe_root: str | None = None,
        probe_images: int = 1000,
    ) -> None:
        if not isinstance(interval, int):
            raise ValueError(f'{interval=} must be a number of iterations')
        self.interval = interval
        self.num_images = num_images
        self.num_held_out = num_held_out
        self.probe_root = probe_root
        self.probe_images = probe_images
        self._shown: dict | None = None
        self._held_out: dict | None = None
        self._probe: OnlineProbe | None = None
        self._norm: Tensor | None = None
        self._norm_is_due = False
        self._handle: RemovableHandle | None = None
        self._seconds = 0.0

    def before_train(self, runner: Runner) -> None:
        """Read the images; look at a model that has learned nothing yet."""
        wrapper, model = runner.optim_wrapper, unwrapped(runner.model)
        if getattr(wrapper, 'grad_name', None) != 'grad_norm':
            self._handle = wrapper.optimizer.register_step_pre_hook(self._keep_norm)
        self._start = time.monotonic()
        if not isinstance(model, BaseSelfSupervisor):
            return
        if self.num_images:
            self._shown = self._read(runner, 'panels', self._read_shown)
        if self.num_held_out and runner.cfg.get('test_dataloader'):
            self._held_out = self._read(runner, 'held-out numbers', self._read_held_out)
        if self.probe_root and backbone_prefix(model):
            self._probe = self._read(runner, 'probe (probe_root)', self._read_probe)
        if runner.iter == 0:
            self._look(runner, 0)

    def before_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Let the next step of the optimizer keep its gradients' norm, if that is due."""
        self._norm_is_due |= self.every_n_train_iters(runner, log_interval(runner))

    def after_train_iter(self, runner: Runner, *args: Any, **kwargs: Any) -> None:
        """Log the speed and look, if that is due."""
        hub, interval = runner.message_hub, log_interval(runner)
        if self.every_n_train_iters(runner, interval):
            images = runner.record['train_dataloader']['images_per_iteration']
            names = ('train/time', 'train/data_time')
            seconds, wait = (hub.get_scalar(name).mean(interval) for name in names)
            numbers = dict(images_per_s=images / seconds, data_wait=wait / seconds)
            if self._norm is not None:
                numbers['grad_norm'] = self._norm.item()
            runner.visualizer.add_scalars(numbers, runner.iter + 1)
        is_last = self.is_last_train_iter(runner)
        if is_last or self.every_n_train_iters(runner, self.interval):
            self._look(runner, runner.iter + 1)

    def after_train(self, runner: Runner) -> None:
        """Report what the looks have cost."""
        if self._handle:
            self._handle.remove()
        if self._seconds:
            cost = self._seconds / (time.monotonic() - self._start)
            runner.logger.info(f'WatchHook took {cost:.1%} of the training time')

    def _look(self, runner: Runner, step: int) -> None:
        start, model = time.monotonic(), unwrapped(runner.model)
        was_training = model.training
        model.eval()
        numbers = {}
        with torch.no_grad():
            if self._held_out:  # first: a loss says best what does not fit
                found = diagnose(model, self._held_out, _SEED)
                numbers = {f'held_out/{name}': value for name, value in found.items()}
            seed_generators(_SEED)  # SeedHook seeds the next iteration
            if self._shown:
                data = model.data_preprocessor(self._shown, training=True)
                images, legend = make_panels(model, data['inputs'])
                title = f'{type(model).__name__}, iteration {step}'
                image = draw_panels(images, title, legend, max_side=_MAX_SIDE)
                runner.visualizer.add_image('panels', image, step)
            if self._probe:
                numbers |= self._log_probe(runner, self._probe.accuracy(model), step)
            if numbers:
                runner.visualizer.add_scalars(numbers, step)
        model.train(was_training)
        self._seconds += (seconds := time.monotonic() - start)
        for hook in runner.hooks:
            if isinstance(hook, IterTimerHook) and step:
                hook.t += seconds  # it is no time that the model waits for data

    def _log_probe(self, runner: Runner, found: dict[str, float], step: int) -> dict:
        numbers = {f'probe/{name}': value for name, value in found.items()}
        text = ', '.join(f'{name} {value:.1f} %' for name, value in found.items())
        extra = dict(event='probe', metrics=numbers)
        runner.logger.info(f'Probe after {step} iterations: {text}', extra=extra)
        return numbers

    def _read(self, runner: Runner, what: str, read: Callable[[Runner], Any]) -> Any:
        """Read images; what some process cannot read, all go without."""
        found = problem = None
        try:
            found = read(runner)
        except Exception as error:  # of any dataset and pipeline
            problem = str(error) or type(error).__name__
        if problems := [text for text in all_gather_object(problem) if text]:
            runner.logger.warning(f'There will be no {what}: {problems[0]}')
            return None
        return found

    def _read_shown(self, runner: Runner) -> dict | None:
        if not is_main_process():
            return None
        return fixed_batch(runner.train_dataloader, self.num_images)

    def _read_held_out(self, runner: Runner) -> dict:
        config = {**runner.cfg.test_dataloader, 'num_workers': 0}
        loader = runner.build_dataloader(config, _SEED)
        return fixed_batch(loader, self.num_held_out, shard=True)

    def _read_probe(self, runner: Runner) -> OnlineProbe | None:
        size = runner.record['train_dataloader']['dataset']['image_size']
        model, folder = unwrapped(runner.model), str(self.probe_root)
        if not is_main_process():
            return None
        return OnlineProbe(model, folder, self.probe_images, size and tuple(size))

    def _keep_norm(self, optimizer: torch.optim.Optimizer, *args: Any) -> None:
        # A fused optimizer is also asked for steps that a gradient scaler skips.
        if self._norm_is_due and not getattr(optimizer, 'found_inf', None):
            groups = optimizer.param_groups
            grads = [p.grad for group in groups for p in group['params']]
            self._norm = get_total_norm([grad for grad in grads if grad is not None])
            # A fused optimizer undoes the scaling of float16 by itself.
            self._norm = self._norm / (getattr(optimizer, 'grad_scale', None) or 1)
            self._norm_is_due = False

# Copyright (c) mmcim contributors. All rights reserved.
"""Building from a config: misspelt keys are found, and errors name the dotted key."""

import inspect
import logging
import os
import re
import tempfile
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import cache
from typing import Any

from mmengine.config import Config
from mmengine.dataset import BaseDataset
from mmengine.logging import MMLogger, print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import DATASETS, OPTIMIZERS, Registry, build_from_cfg
from mmengine.runner import BaseLoop, Runner

from .arguments import constructors, keyword_arguments, takes_any_keyword
from .errors import ConfigError

# How alike two names must be for one to be a misspelling of the other.
_MISSPELT = 0.8
_RELATED = 0.5
# Read by registries themselves; the class does not get them.
_NOT_ARGUMENTS = {'type', '_scope_', 'convert_to_iter_based'}
# What mmengine reads at the top of a config besides the arguments of its runner.
_TOP_LEVEL = (
    *inspect.signature(Runner.__init__).parameters,
    'activation_checkpointing',
    'compile',
    'custom_imports',
    'efficient_conv_bn_eval',
    'find_unused_parameters',
    'model_wrapper_cfg',
    'override',
    'runner_type',
    'sync_bn',
    'tta_model',
    'tta_pipeline',
)


# Each of these is there with the others, or not at all.
_TOGETHER = (
    ('train_dataloader', 'train_cfg', 'optim_wrapper'),
    ('val_dataloader', 'val_cfg', 'val_evaluator'),
    ('test_dataloader', 'test_cfg', 'test_evaluator'),
)


class BuildError(ConfigError):
    """An error in building, with the dotted key of the config that it is about."""


class ConfigKeyErrors:
    """Part of a runner whose errors in building name the dotted key of the config.

    It goes before :class:`mmengine.runner.Runner` among the bases of a class. All that
    the runner builds is built under :func:`explain_build_errors`; its training and tests
    are not.
    """

    cfg: Config

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build the runner of a config.

        Args:
            cfg: The complete config.

        Raises:
            ConfigError: If a key is misspelt or the work directory cannot be written.
            BuildError: For every error of what is built.
        """
        check_top_level(cfg)
        _check_work_dir(cfg['work_dir'])
        with explain_build_errors(cfg):
            return super().from_cfg(cfg)

    def build_train_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the training loop with its data."""
        with explain_build_errors(self.cfg, 'train_cfg'):
            return super().build_train_loop(loop)

    def build_val_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the validation loop with its data and metrics."""
        with explain_build_errors(self.cfg, 'val_cfg'):
            return super().build_val_loop(loop)

    def build_test_loop(self, loop: BaseLoop | dict) -> BaseLoop:
        """Build the test loop with its data and metrics."""
        with explain_build_errors(self.cfg, 'test_cfg'):
            return super().build_test_loop(loop)

    def build_optim_wrapper(self, optim_wrapper: OptimWrapper | dict) -> OptimWrapper:
        """Build the optimizer and its wrapper."""
        with explain_build_errors(self.cfg, 'optim_wrapper'):
            if isinstance(optim_wrapper, dict) and 'optimizer' in optim_wrapper:
                # mmengine uses the class before it is built.
                _check_keys(optim_wrapper['optimizer'], OPTIMIZERS)
            return super().build_optim_wrapper(optim_wrapper)

    def build_param_scheduler(self, scheduler: Any) -> Any:
        """Build the schedulers of learning rate and momentum."""
        with explain_build_errors(self.cfg, 'param_scheduler'):
            return super().build_param_scheduler(scheduler)

    def _init_model_weights(self) -> None:
        with explain_build_errors(self.cfg, 'model'):
            super()._init_model_weights()


@contextmanager
def explain_build_errors(cfg: Config | dict, key: str = '') -> Iterator[None]:
    """Check what registries build, and let every error name the key of the config.

    In this context ``Registry.build`` looks at the keys that it gets, also inside of the
    constructors of other libraries: a key that resembles an argument of the class is an
    error, another one that only its ``**kwargs`` take is a warning.

    Args:
        cfg: The config that is built from.
        key: The part of it that an error is about if nothing else is known. Of several
            equal parts it is the one whose key begins alike (with ``test``, for example).

    Raises:
        BuildError: For each error but those that are one already. The log file gets its
            traceback.
    """
    original, Registry.build = Registry.build, _build
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        _log_traceback(error)
        raise BuildError(_explain(error, cfg, key)) from error
    finally:
        Registry.build = original


def check_top_level(cfg: Config | dict) -> None:
    """Check the names at the top of a config, where all others are free variables.

    Raises:
        ConfigError: If one looks like a misspelt key, or one is missing.
    """
    for name in cfg:
        close = _nearest(name, _TOP_LEVEL, 0.9)
        if close and name not in _TOP_LEVEL:
            raise ConfigError(f'Unknown config key {name!r}.{_did_you_mean(close)}')
    for names in (('model',), *_TOGETHER):
        missing = [name for name in names if cfg.get(name) is None]
        if missing and (names == ('model',) or len(missing) < len(names)):
            raise ConfigError(f'{missing[0]} is missing in the config')


def _check_work_dir(folder: str) -> None:
    try:
        os.makedirs(folder, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise ConfigError(
            f'work_dir: {folder} cannot be written ({error.strerror}). Choose another '
            'one with --work-dir'
        ) from error


_registry_build = Registry.build


def _build(registry: Registry, cfg: dict, *args: Any, **kwargs: Any) -> Any:
    """Stands in for ``Registry.build``."""
    for part in cfg if isinstance(cfg, list) else [cfg]:
        if isinstance(part, dict) and 'type' in part:
            _check_keys(part, registry)
    built = _registry_build(registry, cfg, *args, **kwargs)
    if registry.root is DATASETS:
        _check_data(built)
    return built


def _check_keys(cfg: dict, registry: Registry) -> None:
    kind = cfg['type']
    with registry.switch_scope_and_registry(cfg.get('_scope_')) as scoped:
        builder = scoped.get(kind) if isinstance(kind, str) else kind
    if builder is None:
        raise ValueError(_unknown_type(kind, scoped))
    known = keyword_arguments(builder)
    for name in cfg.keys() - known.keys() - _NOT_ARGUMENTS:
        any_goes = takes_any_keyword(builder)
        cutoff = _MISSPELT if any_goes else _RELATED
        close = _nearest(name, known, cutoff)
        # timm's pretrained_cfg is not a misspelt pretrained.
        close = [known for known in close if not name.startswith(f'{known}_')]
        text = f'{_name(builder)} has no argument {name!r}.{_did_you_mean(close)}'
        if close or not any_goes:
            raise ValueError(text)
        if not takes_any_keyword(constructors(builder)[-1]):
            _warn(f'{text} Its **kwargs take it, but no parent class does.')


def _unknown_type(kind: str, registry: Registry) -> str:
    names, node = [], registry
    while node is not None:
        names += node.module_dict
        node = node.parent
    # A config of mmseg has to name mmpretrain's classes with their scope.
    children = registry.root.children.items()
    close = [f'{scope}.{kind}' for scope, child in children if kind in child.module_dict]
    close = close or _nearest(kind.split('.')[-1], names, _RELATED)
    return f'there is no {registry.root.name} of type {kind!r}.{_did_you_mean(close)}'


def _nearest(name: str, names: Iterable[str], cutoff: float) -> list[str]:
    by_lower = {known.lower(): known for known in names}
    return [by_lower[n] for n in get_close_matches(name.lower(), by_lower, 1, cutoff)]


def _did_you_mean(names: list[str]) -> str:
    return f' Did you mean {" or ".join(map(repr, names))}?' if names else ''


@cache
def _warn(text: str) -> None:
    """Warn once."""
    print_log(text, logger='current', level=logging.WARNING)


def _check_data(dataset: Any) -> None:
    """Look for folders that a data set would miss only in training."""
    if isinstance(dataset, BaseDataset):
        for folder in dataset.data_prefix.values():
            if folder and '://' not in folder and not os.path.exists(folder):
                raise FileNotFoundError(f'{folder} does not exist')


def _explain(error: Exception, cfg: Config | dict, key: str) -> str:
    """Put the dotted key and the class before the message of an error."""
    first = key.split('_')[0]
    items = sorted(cfg.items(), key=lambda item: not item[0].startswith(first))
    places: list[tuple[str, dict]] = [('', dict(items))]  # what is built, inside first
    kind, cause, files = '', _cause(error), ''
    for built, registry in _builds(error):
        kind = _name(built.get('type', ''))
        files = _expected_files(built) if registry.root is DATASETS else ''
        for place, node in places:
            found = max(_walk(node, place), key=lambda item: _overlap(item[1], built))
            if _overlap(found[1], built):
                key = found[0]
                places.insert(0, (key, built))
                break
    unknown = re.search(r"(?:unexpected keyword|has no) argument '(\w+)'", cause)
    if unknown:
        keys = (k for place, node in places for k, _ in _walk(node, place))
        key = next((k for k in keys if k.split('.')[-1] == unknown[1]), key)
    else:
        cause += files
    parts = (key, '' if kind in cause else kind, cause)
    return ': '.join(part for part in parts if part)


def _builds(error: Exception) -> Iterator[tuple[dict, Registry]]:
    """Find what was being built when an error was raised, from the outside in."""
    codes = [function.__code__ for function in (_build, _check_keys, build_from_cfg)]
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code in codes and isinstance(frame.f_locals['cfg'], dict):
            yield frame.f_locals['cfg'], frame.f_locals['registry']


def _walk(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    """Go through all that is in a config, with its dotted key."""
    yield key, node
    if isinstance(node, (dict, list, tuple)):
        for name, value in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _walk(value, f'{key}.{name}' if key else str(name))


def _overlap(part: Any, built: dict) -> int:
    """Count what a part of a config has in common with a dict that was built from it.

    Keys come and go on the way; where both have one, 0 is for any difference.
    """
    common = part.keys() & built.keys() if isinstance(part, dict) else ()
    alike = 'type' in common and all(part[name] == built[name] for name in common)
    return len(common) if alike else 0


def _cause(error: Exception) -> str:
    """The message of an error, with its class unless that says nothing more."""
    told = isinstance(error, (ValueError, FileNotFoundError)) and str(error)
    return str(error) if told else f'{type(error).__name__}: {error}'.rstrip(': ')


def _expected_files(cfg: dict) -> str:
    """Describe the files that a data set wants to find, if it reads any."""
    if not cfg.keys() & {'data_root', 'data_prefix', 'ann_file'}:
        return ''
    root, annotations = str(cfg.get('data_root') or '.'), cfg.get('ann_file')
    prefix = cfg.get('data_prefix') or cfg.get('split') or ''
    by_class = cfg.get('with_label', True) and not annotations
    below = '<class>/<image>' if by_class and isinstance(prefix, str) else '<image>'
    prefixes = prefix.values() if isinstance(prefix, dict) else [prefix]
    folders = ' and '.join(os.path.join(root, str(folder), below) for folder in prefixes)
    listed = f', listed in {os.path.join(root, annotations)}' if annotations else ''
    return f'. Expected files (below {os.getcwd()}): {folders}{listed}'


def _name(builder: Callable | str) -> str:
    return getattr(builder, '__name__', str(builder))


def _log_traceback(error: Exception) -> None:
    """Write the traceback of an error to the log file, and only there."""
    logger = MMLogger.get_current_instance()
    info = (type(error), error, error.__traceback__)
    record = logger.makeRecord(
        logger.name, logging.ERROR, __file__, 0, 'Building failed', (), info
    )
    for handler in logger.handlers:
        if isinstance(handler, logging.FileHandler):
            handler.emit(record)

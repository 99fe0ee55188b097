# Copyright (c) mmcim contributors. All rights reserved.
"""Building from a config: misspelt keys are found, and errors name the dotted key."""

import inspect
import logging
import os
import re
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import Any

import mmengine.registry
import mmpretrain.registry
from mmengine import runner as loops
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import Registry
from mmengine.runner import Runner
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.utils.data import DataLoader

from .arguments import constructors, keyword_arguments, takes_any_keyword
from .errors import ConfigError
from .files import refuse_code
from .nested import walk
from .scopes import SCOPES

# How alike two names must be for one to be a misspelling of the other. At the top of a
# config all others are free variables.
_MISSPELT = 0.8
_MISSPELT_AT_TOP = 0.85
# Read by registries, runners, mmengine's optimizers and data loaders, mmcv's norms and
# RandAugment; the class never gets them.
_NOT_ARGUMENTS = {'type', '_scope_', 'convert_to_iter_based', 'constructor'}
_NOT_ARGUMENTS |= {'paramwise_cfg', 'magnitude_key', 'priority', 'by_epoch'}
_NOT_ARGUMENTS |= {'requires_grad', 'num_batch_per_epoch', 'disable_subprocess_warning'}
# What numbers of these names, or that end with them, may be.
_POSITIVE = ('size', 'sizes', 'interval', 'epochs', 'iters', 'counts', 'temperature')
_FRACTIONS = ('prob', 'momentum', 'fraction')
# What mmengine's runner and ours read at the top of a config.
TOP_LEVEL = [*inspect.signature(Runner.__init__).parameters, 'override', 'compile']
TOP_LEVEL += ['custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn']
TOP_LEVEL += ['activation_checkpointing', 'efficient_conv_bn_eval', 'tta_model']
TOP_LEVEL += ['runner_type', 'channels_last']
# Under another name a hook would run beside the default one.
HOOK_NAMES = ['runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler']
HOOK_NAMES += ['checkpoint', 'visualization', 'backbone_export', 'watch']
# Keys of mmcls 0.x and mmseg 0.x. ``optimizer`` and ``data`` are not among them: they are
# common variables in newer configs.
OLD_KEYS = ['lr_config', 'momentum_config', 'runner', 'total_epochs', 'fp16']
OLD_KEYS += ['optimizer_config', 'evaluation', 'checkpoint_config', 'log_config']
OLD_KEYS += ['resume_from', 'workflow', 'dist_params', 'gpu_ids']
_KNOWN = [*vars(mmengine.registry).values(), *vars(mmpretrain.registry).values()]
_ROOTS = dict.fromkeys(r.root for r in _KNOWN if isinstance(r, Registry))
# What the functions that build a part of a config call it.
_PARTS = ('cfg', 'loop', 'dataloader')


class BuildError(ConfigError):
    """An error in building, with the dotted key of the config that it is about."""


def check_keys(cfg: Config | dict) -> None:
    """Find keys of a config that nothing would read, and types that do not exist.

    They are found before anything is built, also in what this run does not build. The
    scope 'mmcim', which mmengine notes in what comes from a base ``mmcim::...``, is taken
    out: mmcim registers in the scopes of others, and ``default_scope`` says in which.

    Raises:
        ConfigError: If a key at the top is of mmcls 0.x or resembles a known one, if
            there is no model, or if the default scope is another library's.
        BuildError: See :func:`check_arguments`.
    """
    for _, part in walk(dict(cfg)):
        if isinstance(part, dict) and part.get('_scope_') == 'mmcim':
            del part['_scope_']
    for name in cfg:
        if name in OLD_KEYS or name == 'data' and 'samples_per_gpu' in str(cfg[name]):
            raise ConfigError(
                f'{name} is a key of mmcls 0.x, which nothing reads; see '
                'https://mmpretrain.readthedocs.io/en/latest/migration.html'
            )
        close = nearest(name, TOP_LEVEL, _MISSPELT_AT_TOP)
        if close and name not in TOP_LEVEL:
            raise ConfigError(f'Unknown config key {name!r}.{close}')
    for name in {*(cfg.get('default_hooks') or ())} - {*HOOK_NAMES}:
        if close := nearest(name, HOOK_NAMES, _MISSPELT):
            raise BuildError(f'default_hooks.{name}: there is no such hook.{close}')
    if cfg.get('model') is None:
        raise ConfigError('model is missing in the config')
    if (scope := cfg.get('default_scope')) not in SCOPES:
        raise ConfigError(f'default_scope must be {" or ".join(SCOPES)}, but is {scope}')
    check_arguments(cfg)


def check_arguments(cfg: Config | dict) -> None:
    """Compare all parts of a config with the classes that get them.

    Raises:
        BuildError: If there is no such class, if it has no such argument, or if a number
            is out of the range of its name. What only ``**kwargs`` take and no parent
            class knows is an error if it resembles an argument, and a warning otherwise.
        ConfigError: If an annotation file may run code.
    """
    default = cfg.get('default_scope') or 'mmpretrain'
    for key, part in (node for name in TOP_LEVEL for node in walk(cfg.get(name), name)):
        if isinstance(part, int | float) and not isinstance(part, bool):
            _check_range(key, part)
        if not isinstance(part, dict):
            continue
        if isinstance(ann_file := part.get('ann_file'), str):
            refuse_code(os.path.join(part.get('data_root') or '', ann_file))
        for name in part if 'type' not in part else ():
            if {*str(name)} <= {*'type'} and nearest(str(name), ['type']):  # not dtype
                raise BuildError(f"{key}.{name}: Did you mean 'type'?")
        scope = part.get('_scope_') or default
        builder = _find_builder(key, part, scope)
        if builder is None and (close := _nearest_type(str(part.get('type')), scope)):
            raise BuildError(f'{key}: there is no type {part["type"]!r}.{close}')
        # A partial (torchvision's transforms in mmpretrain) passes everything on.
        if builder is None or isinstance(builder, partial):
            continue
        known = keyword_arguments(builder)
        takes_any = takes_any_keyword(builder)
        # What the last of several **kwargs take is read.
        is_lost = takes_any and not takes_any_keyword(constructors(builder)[-1])
        for name in part.keys() - known.keys() - _NOT_ARGUMENTS:
            # timm's pretrained_cfg is not a misspelt pretrained.
            others = [other for other in known if not name.startswith(f'{other}_')]
            text = f'{key}.{name}: {builder.__name__} has no argument {name!r}.'
            close = nearest(name, others, _MISSPELT)
            if close or not takes_any:
                raise BuildError(text + close)
            if is_lost:
                text += ' Its **kwargs take it, but no parent class does.'
                print_log(text, logger='current', level=logging.WARNING)


def _find_builder(key: str, part: dict, scope: str) -> Callable | None:
    """Find the class or function that gets a part of a config, None if there is none."""
    if key.endswith('clip_grad'):
        return clip_grad_value_ if part.get('type') == 'value' else clip_grad_norm_
    if (kind := part.get('type')) is not None:
        return _find(kind, scope)
    loop = 'EpochBasedTrainLoop' if part.get('by_epoch', True) else 'IterBasedTrainLoop'
    builders = dict(
        train_cfg=getattr(loops, loop), val_cfg=loops.ValLoop, test_cfg=loops.TestLoop
    )
    builders |= dict(randomness=Runner.set_randomness, env_cfg=_env_cfg)
    builders['env_cfg.dist_cfg'] = _dist_cfg
    return DataLoader if key.endswith('_dataloader') else builders.get(key)


def _env_cfg(
    cudnn_benchmark: Any, mp_cfg: Any, dist_cfg: Any, resource_limit: Any, tf32: Any
) -> None:
    """What mmengine's runner reads of it."""


def _dist_cfg(backend: Any, init_backend: Any, timeout: Any, **others: Any) -> None:
    """What mmengine's ``init_dist`` and PyTorch's ``init_process_group`` read of it."""


def _find(kind: Any, scope: str) -> Callable | None:
    """Find the class or function of a ``type`` in the registries of a scope."""
    if not isinstance(kind, str):
        return kind if callable(kind) else None
    for root in _ROOTS:
        for registry in (root.children.get(scope, root), root):
            registry.import_from_location()
            # With its scope, which may have to be imported, or by its path in a package.
            get = registry.get if '.' in kind else registry.module_dict.get
            if found := get(kind):
                return found
    return None


def _nearest_type(kind: str, scope: str) -> str:
    """Ask for the same class of another scope, or one of a similar name."""
    names: list[str] = []
    library = kind.split('.')[0]
    if library.startswith('mm') and library != kind and not find_spec(library):
        return f' Install {library}.'
    for root in _ROOTS:
        for library, child in root.children.items():
            # A config of mmseg has to name mmpretrain's classes with their scope.
            if kind in child.module_dict:
                return f" Did you mean '{library}.{kind}'?"
        names += [*root.children.get(scope, root).module_dict, *root.module_dict]
    return nearest(kind, names, _MISSPELT)


def _check_range(key: str, value: float) -> None:
    """Refuse sizes, lengths and intervals of 0 or less, and probabilities above 1."""
    name = re.sub(r'(\.\d+)+$', '', key).rpartition('.')[2]
    kind = '' if name.startswith(('pretrained_', 'min_')) else name.rpartition('_')[2]
    never = name == 'interval' and value == -1  # for mmengine's hooks
    if value <= 0 and kind in _POSITIVE and not never:
        raise BuildError(f'{key} is {value}, but has to be positive')
    if kind in _FRACTIONS and not 0 <= value <= 1:
        raise BuildError(f'{key} is {value}, but has to be in [0, 1]')


@contextmanager
def explain_build_errors(cfg: Config | dict, key: str = '') -> Iterator[None]:
    """Let every error name the key of the config, the class and the cause in one line.

    Args:
        cfg: The config that is built from.
        key: The part of it that an error is about if nothing else is known. Of several
            equal parts it is the one whose key begins alike (with ``test``, for example).

    Raises:
        BuildError: For each error but those that are one already.
    """
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        raise BuildError(_explain(error, cfg, key)) from error


def _explain(error: Exception, cfg: Config | dict, key: str) -> str:
    says_all = isinstance(error, (ValueError, OSError)) and str(error)
    cause = str(error) if says_all else f'{type(error).__name__}: {error}'.rstrip(': ')
    inside = key.split('_')[0]
    last: Any = {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        for built in map(frame.f_locals.get, _PARTS):
            if found := _find_part(cfg, built, inside):
                key, inside, last = found, found, built
    # Where a data set looks for its files.
    names = ('data_root', 'data_prefix', 'ann_file')
    if given := [f'{name}={last[name]!r}' for name in names if last.get(name)]:
        cause += f' (below {os.getcwd()}: {", ".join(given)})'
    kind = getattr(last.get('type'), '__name__', str(last.get('type', '')))
    return ': '.join(part for part in (key, kind, cause) if part)


def _find_part(cfg: Config | dict, built: Any, inside: str) -> str:
    """Find the part of a config that something is built from.

    Both have the same values, and half of the part's keys at least: some come and go on
    the way. Of several parts it is one whose key begins as given, if any does.

    Returns:
        Its dotted key; '' if there is none.
    """
    found = {}
    for key, part in walk(dict(cfg)):
        if isinstance(part, dict) and isinstance(built, dict):
            common = part.keys() & built.keys()
            # By their text, since comparing arrays gives an array.
            same = all(repr(part[name]) == repr(built[name]) for name in common)
            alike = 'type' in part or 'type' not in built
            if same and alike and 0 < len(part) <= 2 * len(common):
                found[key] = key.startswith(inside), len(common)
    return max(found, key=found.__getitem__, default='')


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Ask for the name that is most alike, if any is."""
    by_lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower(), by_lower, 1, cutoff)
    return f' Did you mean {by_lower[close[0]]!r}?' if close else ''

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
from typing import Any

import mmengine.registry
import mmpretrain.registry
from mmengine.config import Config
from mmengine.logging import MMLogger, print_log
from mmengine.registry import OPTIMIZERS, Registry, build_from_cfg
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .arguments import constructors, keyword_arguments, takes_any_keyword
from .errors import ConfigError
from .files import refuse_code
from .scope import drop_scope

# How alike two names must be for one to be a misspelling of the other. At the top of a
# config, where all others are free variables, tta_pipeline and test_pipeline are not.
_MISSPELT = 0.8
_MISSPELT_AT_TOP = 0.9
# Read by registries, runners, mmengine's optimizers and data loaders, mmcv's norms and
# RandAugment; the class never gets them.
_NOT_ARGUMENTS = {'type', '_scope_', 'convert_to_iter_based', 'constructor'}
_NOT_ARGUMENTS |= {'paramwise_cfg', 'magnitude_key', 'priority', 'by_epoch'}
_NOT_ARGUMENTS |= {'requires_grad', 'num_batch_per_epoch', 'disable_subprocess_warning'}
_POSITIVE = re.compile(r'(.+_)?(sizes?|interval|epochs|iters|counts)')
# What mmengine's runner and ours read at the top of a config.
TOP_LEVEL = [*inspect.signature(Runner.__init__).parameters, 'override', 'runner_type']
TOP_LEVEL += ['custom_imports', 'find_unused_parameters', 'model_wrapper_cfg', 'sync_bn']
TOP_LEVEL += ['activation_checkpointing', 'efficient_conv_bn_eval', 'compile']
TOP_LEVEL += ['tta_model', 'tta_pipeline']
# Under another name a hook would run beside the default one.
HOOK_NAMES = ['runtime_info', 'timer', 'sampler_seed', 'logger', 'param_scheduler']
HOOK_NAMES += ['checkpoint', 'visualization', 'backbone_export', 'runner']
# Keys of mmcls 0.x and mmseg 0.x, which nothing reads, and what has replaced them.
# ``optimizer`` is not among them: it is a common variable in newer configs.
OLD_KEYS = dict(
    data='train_dataloader, val_dataloader and test_dataloader',
    lr_config='param_scheduler',
    momentum_config='param_scheduler',
    runner='train_cfg',
    total_epochs='train_cfg.max_epochs',
    optimizer_config='optim_wrapper',
    fp16='optim_wrapper.type',
    evaluation='val_evaluator and train_cfg.val_interval',
    checkpoint_config='default_hooks.checkpoint',
    log_config='default_hooks.logger',
    resume_from='resume and load_from',
    workflow='train_cfg and val_cfg',
    dist_params='env_cfg.dist_cfg',
    gpu_ids='--launcher',
)
# Where mmcim registers its Pretrained; that of other scopes loads weights in part.
SCOPES = ('mmpretrain', 'mmseg')
_KNOWN = [*vars(mmengine.registry).values(), *vars(mmpretrain.registry).values()]
_ROOTS = dict.fromkeys(r.root for r in _KNOWN if isinstance(r, Registry))
# In their frames of a traceback is what was being built.
_BUILDING = (Registry.build.__code__, build_from_cfg.__code__)


class BuildError(ConfigError):
    """An error in building, with the dotted key of the config that it is about."""


def _explained(method: str, key: str) -> Callable:
    """Make a method of a runner whose errors name a key of the config."""

    def build(self: 'ConfigKeyErrors', *args: Any) -> Any:
        with explain_build_errors(self.cfg, key):
            return getattr(super(ConfigKeyErrors, self), method)(*args)

    return build


class ConfigKeyErrors:
    """Part of a runner whose errors in building name the dotted key of the config.

    It goes before :class:`mmengine.runner.Runner` among the bases of a class. All that
    the runner builds is built under :func:`explain_build_errors`; its training and tests
    are not.
    """

    cfg: Config
    build_train_loop = _explained('build_train_loop', 'train_dataloader')
    build_val_loop = _explained('build_val_loop', 'val_dataloader')
    build_test_loop = _explained('build_test_loop', 'test_dataloader')
    build_optim_wrapper = _explained('build_optim_wrapper', 'optim_wrapper')
    build_param_scheduler = _explained('build_param_scheduler', 'param_scheduler')

    @classmethod
    def from_cfg(cls, cfg: Config) -> Runner:
        """Build the runner of a config.

        Args:
            cfg: The complete config.

        Raises:
            ConfigError: If a key is misspelt.
            BuildError: For every error of what is built.
        """
        drop_scope(cfg)
        check_keys(cfg)
        with explain_build_errors(cfg):
            return super().from_cfg(cfg)  # type: ignore[misc]


def check_keys(cfg: Config | dict) -> None:
    """Find keys of a config that nothing would read.

    What a class without ``**kwargs`` does not know it refuses by itself when it is built;
    a misspelt name is found before, also in what this run does not build.

    Raises:
        ConfigError: If a key at the top is of mmcls 0.x, if that or an argument resembles
            a known one, if there is no model, or if the default scope is another
            library's. What ``**kwargs`` take and no parent class knows is a warning.
    """
    for name in cfg:
        if name in OLD_KEYS:
            raise ConfigError(
                f'{name} is a key of mmcls 0.x, which nothing reads; set {OLD_KEYS[name]}'
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
    """Compare what the classes of a config get by ``**kwargs`` with what they know.

    Raises:
        BuildError: If a name resembles that of an argument, or a size is not positive.
        ConfigError: If an annotation file may run code.
    """
    nodes = (node for name in TOP_LEVEL for node in _walk(cfg.get(name), name))
    for key, part in nodes:
        if isinstance(part, int | float):
            _check_positive(key, part)
        is_loader = key.endswith('_dataloader')
        if not isinstance(part, dict) or not (is_loader or 'type' in part):
            continue
        if isinstance(ann_file := part.get('ann_file'), str):
            refuse_code(os.path.join(part.get('data_root') or '', ann_file))
        scope = part.get('_scope_') or cfg.get('default_scope') or 'mmpretrain'
        builder = DataLoader if is_loader else _find(part['type'], scope)
        if builder is None and key == 'optim_wrapper.optimizer':
            # mmengine uses the class before it is built.
            raise BuildError(f'{key}: {_unknown_type(part["type"], OPTIMIZERS)}')
        # A partial (torchvision's transforms in mmpretrain) passes everything on.
        if builder is None or isinstance(builder, partial):
            continue
        known = keyword_arguments(builder)
        # What the last of several **kwargs take is read; what none take is refused when
        # it is built, and that of data a run does not use here.
        takes_any = takes_any_keyword(builder)
        is_refused = not takes_any and '_dataloader' in key
        is_lost = takes_any and not takes_any_keyword(constructors(builder)[-1])
        for name in part.keys() - known.keys() - _NOT_ARGUMENTS:
            # timm's pretrained_cfg is not a misspelt pretrained.
            others = [other for other in known if not name.startswith(f'{other}_')]
            text = f'{key}.{name}: {builder.__name__} has no argument {name!r}.'
            close = nearest(name, others, _MISSPELT)
            if close or is_refused:
                raise BuildError(text + close)
            if is_lost:
                text += ' Its **kwargs take it, but no parent class does.'
                print_log(text, logger='current', level=logging.WARNING)


def _check_positive(key: str, value: float) -> None:
    """Refuse sizes, lengths and intervals that are zero or negative."""
    name = re.sub(r'(\.\d+)+$', '', key).rpartition('.')[2]
    never = name == 'interval' and value == -1  # for mmengine's hooks
    if value <= 0 and _POSITIVE.fullmatch(name) and not never:
        raise BuildError(f'{key} is {value}, but has to be positive')


@contextmanager
def explain_build_errors(cfg: Config | dict, key: str = '') -> Iterator[None]:
    """Let every error name the key of the config, the class and the cause in one line.

    Args:
        cfg: The config that is built from.
        key: The part of it that an error is about if nothing else is known. Of several
            equal parts it is the one whose key begins alike (with ``test``, for example).

    Raises:
        BuildError: For each error but those that are one already. The log file gets its
            traceback.
    """
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        for handler in MMLogger.get_current_instance().handlers:
            if isinstance(handler, logging.FileHandler) and handler.stream:
                handler.stream.write(traceback.format_exc())
                handler.flush()
        raise BuildError(_explain(error, cfg, key)) from error


def _explain(error: Exception, cfg: Config | dict, key: str) -> str:
    says_all = isinstance(error, (ValueError, OSError)) and str(error)
    cause = str(error) if says_all else f'{type(error).__name__}: {error}'.rstrip(': ')
    nodes, inside, built = [*_walk(cfg)], key.split('_')[0], {}
    for frame, _ in traceback.walk_tb(error.__traceback__):
        if frame.f_code in _BUILDING:
            known = frame.f_locals
            found = [name for name, part in nodes if _is_from(part, known['cfg'])]
            if found:
                key = next((name for name in found if name.startswith(inside)), found[0])
                inside, built = key, known['cfg']
            if known.get('obj_cls', Any) is None:
                cause = _unknown_type(known['obj_type'], known['registry'])
    call = re.search(r"(\w+)(\.\w+)?\(\) got an unexpected.* argument '(\w+)'", cause)
    if call:
        cause = f'{call[1]} has no argument {call[3]!r}.'
        scope = cfg.get('default_scope') or 'mmpretrain'
        # A function may be registered under another name than its own.
        if builder := _find(call[1], scope) or _find(built.get('type', ''), scope):
            cause += nearest(call[3], keyword_arguments(builder))
    if refused := re.search(r"has no argument '(\w+)'", cause):
        same = [name for name, _ in nodes if name.split('.')[-1] == refused[1]]
        key = next((name for name in same if name.startswith(inside)), [*same, key][0])
    else:
        cause += _expected_files(built)
    kind = getattr(built.get('type'), '__name__', str(built.get('type', '')))
    return ': '.join(part for part in (key, '' if kind in cause else kind, cause) if part)


def _walk(node: Any, key: str = '') -> Iterator[tuple[str, Any]]:
    """Go through all that is in a config, with its dotted key."""
    yield key, node
    if isinstance(node, (Config, dict, list, tuple)):
        items = enumerate(node) if isinstance(node, (list, tuple)) else node.items()
        for name, value in items:
            yield from _walk(value, f'{key}.{name}' if key else str(name))


def _is_from(part: Any, built: Any) -> bool:
    """Whether a dict was built from a part of a config; keys come and go on the way."""
    if not (isinstance(part, dict) and isinstance(built, dict)):
        return False
    common = part.keys() & built.keys()
    # By their text, since comparing arrays gives an array.
    return 'type' in common and all(repr(part[k]) == repr(built[k]) for k in common)


def _find(kind: str | Callable, scope: str) -> Callable | None:
    """Find the class or function of a ``type`` in the registries of a scope."""
    if not isinstance(kind, str):
        return kind
    library, _, name = kind.rpartition('.')
    scope = library.split('.')[0] or scope
    for root in _ROOTS:
        for registry in (root.children.get(scope, root), root):
            registry.import_from_location()
            if name in registry.module_dict:
                return registry.module_dict[name]
    return None


def _unknown_type(kind: str, registry: Registry) -> str:
    text = f'there is no {registry.root.name} of type {kind!r}.'
    for scope, child in registry.root.children.items():
        # A config of mmseg has to name mmpretrain's classes with their scope.
        if kind in child.module_dict:
            return f"{text} Did you mean '{scope}.{kind}'?"
    names = {**registry.module_dict, **registry.root.module_dict}
    return text + nearest(kind.split('.')[-1], names)


def nearest(name: str, names: Iterable[str], cutoff: float = 0.6) -> str:
    """Ask for the name that is most alike, if any is."""
    by_lower = {known.lower(): known for known in names}
    close = get_close_matches(name.lower(), by_lower, 1, cutoff)
    return f' Did you mean {by_lower[close[0]]!r}?' if close else ''


def _expected_files(built: dict) -> str:
    """Say where a data set looks for its files, if it reads any."""
    names = ('data_root', 'data_prefix', 'ann_file')
    given = [f'{name}={built[name]!r}' for name in names if built.get(name)]
    return f' (below {os.getcwd()}: {", ".join(given)})' if given else ''

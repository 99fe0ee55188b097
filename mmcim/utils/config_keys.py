# Copyright (c) mmcim contributors. All rights reserved.
"""Look for misspelt keys and unknown types in a config.

Config keys become constructor arguments, and many constructors swallow unknown ones in
``**kwargs``. Which ones a class reads is seen in its signature and its source.
"""

import inspect
import os
from collections.abc import Callable
from difflib import get_close_matches
from importlib import import_module

import mmpretrain.registry as mmpretrain_registry
from mmengine import registry as mmengine_registry
from mmengine.config import Config
from mmengine.registry import DefaultScope, Registry
from mmengine.runner import Runner
from torch.utils.data import DataLoader

from .errors import ConfigError
from .signatures import accepted_arguments

_MODELS = mmengine_registry.MODELS
_DATASETS = mmengine_registry.DATASETS
_BATCH_AUGMENTS = mmpretrain_registry.BATCH_AUGMENTS
_HOOKS = mmengine_registry.HOOKS
_LOOPS = mmengine_registry.LOOPS
_SCHEDULERS = mmengine_registry.PARAM_SCHEDULERS

# Where the class that a dict's ``type`` names is registered: by the key of the dict.
_BY_KEY = {
    'model': _MODELS,
    'data_preprocessor': _MODELS,
    'tta_model': _MODELS,
    'init_cfg': mmengine_registry.WEIGHT_INITIALIZERS,
    'augments': _BATCH_AUGMENTS,
    'dataset': _DATASETS,
    'datasets': _DATASETS,
    'pipeline': mmengine_registry.TRANSFORMS,
    'tta_pipeline': mmengine_registry.TRANSFORMS,
    'transforms': mmengine_registry.TRANSFORMS,
    'sampler': mmengine_registry.DATA_SAMPLERS,
    'batch_sampler': mmengine_registry.DATA_SAMPLERS,
    'collate_fn': mmengine_registry.FUNCTIONS,
    'worker_init_fn': mmengine_registry.FUNCTIONS,
    'optim_wrapper': mmengine_registry.OPTIM_WRAPPERS,
    'optimizer': mmengine_registry.OPTIMIZERS,
    'param_scheduler': _SCHEDULERS,
    'default_hooks': _HOOKS,
    'custom_hooks': _HOOKS,
    'train_cfg': _LOOPS,
    'val_cfg': _LOOPS,
    'test_cfg': _LOOPS,
    'val_evaluator': mmengine_registry.METRICS,
    'test_evaluator': mmengine_registry.METRICS,
    'visualizer': mmengine_registry.VISUALIZERS,
    'vis_backends': mmengine_registry.VISBACKENDS,
    'log_processor': mmengine_registry.LOG_PROCESSORS,
    'model_wrapper_cfg': mmengine_registry.MODEL_WRAPPERS,
}
# Where to look for a type inside of another object, after the registry of that object.
_ANYWHERE = [
    *dict.fromkeys(_BY_KEY.values()),
    mmengine_registry.EVALUATOR,
    mmengine_registry.TASK_UTILS,
    mmpretrain_registry.TOKENIZER,
]
_ALSO = {mmengine_registry.METRICS: [mmengine_registry.EVALUATOR]}
# Keys that models use as well, for objects of other registries.
_AMBIGUOUS = ('sampler',)
# Transforms that hold transforms of another package.
_FOREIGN = ('Albu', 'Albumentations')
# What a registry, or mmengine around it, takes out of a dict before the class sees it.
_TAKEN_OUT = {
    _HOOKS: {'priority'},
    _SCHEDULERS: {'convert_to_iter_based'},
    _LOOPS: {'by_epoch'},
    mmengine_registry.WEIGHT_INITIALIZERS: {'override'},
    mmengine_registry.OPTIM_WRAPPERS: {'optimizer', 'constructor', 'paramwise_cfg'},
}
# Dicts without a registered class: mmengine or torch name their keys.
_LOADER = set(inspect.signature(DataLoader.__init__).parameters) - {'self'}
_LOADER |= {'num_batch_per_epoch', 'disable_subprocess_warning'}
_PARAMWISE = {
    'custom_keys',
    'bias_lr_mult',
    'bias_decay_mult',
    'norm_decay_mult',
    'flat_decay_mult',
    'dwconv_decay_mult',
    'dcn_offset_lr_mult',
    'bypass_duplicate',
}
# The keys that each constructor reads; those of others are not known.
_PARAMWISE_OF = {
    'DefaultOptimWrapperConstructor': _PARAMWISE,
    'NetworkwiseOptimWrapperConstructor': _PARAMWISE,
    'LayerDecayOptimWrapperConstructor': _PARAMWISE | {'layer_decay_rate'},
}
_PLAIN = {
    'train_dataloader': _LOADER,
    'val_dataloader': _LOADER,
    'test_dataloader': _LOADER,
    'env_cfg': {'cudnn_benchmark', 'mp_cfg', 'dist_cfg', 'resource_limit'},
    'randomness': {'seed', 'diff_rank_seed', 'deterministic'},
    'auto_scale_lr': {'enable', 'base_batch_size'},
}
# Networks of mmseg that read init_cfg themselves -> what to use in their place.
_LOAD_THEMSELVES = {
    'VisionTransformer': 'VisionTransformer',
    'BEiT': 'BEiTViT',
    'MAE': 'VisionTransformer',
    'SwinTransformer': 'SwinTransformer',
}
# The keys that mmengine reads at the top of a config; others are free variables.
_TOP = set(inspect.signature(Runner.__init__).parameters) - {'self', 'cfg'}
_TOP |= {
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
}


def check_keys(cfg: Config) -> None:
    """Check that each key is an argument of the class that gets it.

    Args:
        cfg (Config): The config; the default scope must be set.

    Raises:
        ConfigError: If a key or type is unknown.
    """
    scope = DefaultScope.get_current_instance().scope_name
    try:
        import_module(f'{scope}.registry')
    except ImportError as error:
        raise ConfigError(
            f'default_scope: {scope} cannot be imported: {error}'
        ) from error
    for key, value in cfg.items():
        if key not in _TOP:
            close = get_close_matches(key, _TOP, n=1, cutoff=0.9)
            if close:
                raise ConfigError(f'{key} is no key of a config. Do you mean {close[0]}?')
        elif key in _BY_KEY or key in _PLAIN:
            _check_node(value, key, _BY_KEY.get(key, _MODELS))


def _check_node(node: object, key: str, registry: Registry) -> None:
    if isinstance(node, (list, tuple)):
        for i, item in enumerate(node):
            _check_node(item, f'{key}.{i}', registry)
        return
    if not isinstance(node, dict):
        return
    inside = registry
    if 'type' in node or key == 'optim_wrapper':
        found = find_builder(node.get('type', 'OptimWrapper'), registry, key)
        if found is None:
            _raise_unknown_type(node['type'], f'{key}.type', registry)
        builder, inside = found
        _check_arguments(node, key, builder, inside)
        if _name(builder) in _FOREIGN:
            return
    elif registry is _LOOPS and key in _BY_KEY:
        _check_arguments(node, key, _default_loop(node, key), registry)
    elif key in _PLAIN:
        _check_names(set(node) - _PLAIN[key], _PLAIN[key], key, key)
    if node.get('type') == 'Pretrained':
        if not node.get('checkpoint'):
            raise ConfigError(f'{key}.checkpoint is missing: name the file of weights')
        if is_missing(node['checkpoint']):
            raise ConfigError(
                f'{key}.checkpoint: checkpoint {node["checkpoint"]!r} does not exist; '
                f'--cfg-options {key}.checkpoint=FILE names another one, and '
                f'{key}=None begins with random weights'
            )
    for name, value in node.items():
        # An initializer's override is a dict of an initializer and a module's name.
        if name not in ('override', 'paramwise_cfg', 'metainfo'):
            # The names of default hooks are free, and one of them is param_scheduler.
            of_child = inside if key == 'default_hooks' else _BY_KEY.get(name, inside)
            _check_node(value, f'{key}.{name}', of_child)
    if 'type' in node:
        _check_own_loading(node, key, builder)


def _check_own_loading(node: dict, key: str, builder: Callable) -> None:
    """Refuse weights that a network of mmseg would load in part, without a word.

    These networks read ``init_cfg`` themselves, without the initializer, and leave what
    is not in the file under their own names random.
    """
    init = node.get('init_cfg')
    checkpoint = init.get('checkpoint') if isinstance(init, dict) else None
    checkpoint = checkpoint or node.get('pretrained')
    ours = _LOAD_THEMSELVES.get(_name(builder))
    of_mmseg = getattr(builder, '__module__', '').startswith('mmseg.')
    if not checkpoint or not ours or not of_mmseg or '://' in checkpoint:
        return
    from ..transfer.fit import names_missing  # it imports this package itself

    arguments = {k: v for k, v in node.items() if k not in ('type', '_scope_')}
    missing = names_missing(builder(**arguments), checkpoint)
    if missing:
        raise ConfigError(
            f"{key}: {checkpoint} lacks {len(missing)} tensors of mmseg's own "
            f'{_name(builder)}, such as {missing[0]}, which would stay random without a '
            f"word; use type='mmpretrain.{ours}', which takes any file, or make one "
            'for mmseg by tools/model_converters/export_backbone.py --to mmseg'
        )


def find_builder(
    kind: object, registry: Registry, key: str
) -> tuple[Callable, Registry] | None:
    """Find what a ``type`` builds, and the registry that knows it.

    Args:
        kind (object): The value of ``type``: a registered name, or the class itself.
        registry (Registry): The registry to look in first.
        key (str): The dotted key of the dict; its last name may fix the registry.

    Returns:
        tuple[Callable, Registry] | None: None if no registry knows the name.
    """
    if not isinstance(kind, str):
        return (kind, registry) if callable(kind) else None
    candidates = [registry, *_ANYWHERE]
    # The key itself, or of an item in a list the list's, says what the object is.
    own = next(part for part in reversed(key.split('.')) if not part.isdigit())
    if own in _BY_KEY and own not in _AMBIGUOUS:
        candidates = [registry, *_ALSO.get(registry, [])]
    for candidate in dict.fromkeys(candidates):
        builder = _scoped(candidate).get(kind)
        if builder is not None:
            return builder, candidate
    return None


def _scoped(registry: Registry) -> Registry:
    """The registry of the default scope's package, whose parent is the given one."""
    scope = DefaultScope.get_current_instance().scope_name
    return registry.root.children.get(scope, registry)


def _raise_unknown_type(kind: object, key: str, registry: Registry) -> None:
    names = []
    node: Registry | None = _scoped(registry)
    while node is not None:
        names += node.module_dict
        node = node.parent
    # A config of mmseg has to name mmpretrain's classes with their scope.
    elsewhere = [
        f'{scope}.{kind}'
        for scope, child in registry.root.children.items()
        if kind in child.module_dict
    ]
    hint = _suggest(str(kind).split('.')[-1], names)
    if elsewhere:
        hint = f' Do you mean {" or ".join(elsewhere)}?'
    raise ConfigError(f'{key}: there is no {registry.name} named {kind}.{hint}')


def _check_arguments(node: dict, key: str, builder: Callable, registry: Registry) -> None:
    accepted = accepted_arguments(builder)
    if accepted is None:
        return
    extra = {'type', '_scope_'} | _TAKEN_OUT.get(registry, set())
    if key.endswith('norm_cfg'):
        extra |= {'requires_grad'}
    _check_names(set(node) - accepted - extra, accepted, key, _name(builder))
    if registry is mmengine_registry.OPTIM_WRAPPERS:
        _check_paramwise(node, key)


def _check_paramwise(node: dict, key: str) -> None:
    constructor = node.get('constructor', 'DefaultOptimWrapperConstructor')
    registry = mmengine_registry.OPTIM_WRAPPER_CONSTRUCTORS
    if find_builder(constructor, registry, f'{key}.constructor') is None:
        _raise_unknown_type(constructor, f'{key}.constructor', registry)
    known = _PARAMWISE_OF.get(str(constructor).split('.')[-1])
    if known is not None:
        given = set(node.get('paramwise_cfg') or {})
        _check_names(given - known, known, f'{key}.paramwise_cfg', 'paramwise_cfg')


def _check_names(unknown: set[str], accepted: set[str], key: str, owner: str) -> None:
    for name in sorted(unknown):
        raise ConfigError(
            f'{key}.{name}: {owner} has no argument {name}.' + _suggest(name, accepted)
        )


def _default_loop(node: dict, key: str) -> Callable:
    name = dict(val_cfg='ValLoop', test_cfg='TestLoop').get(key)
    if name is None:
        name = 'EpochBasedTrainLoop' if node.get('by_epoch') else 'IterBasedTrainLoop'
    return _LOOPS.get(name)


def _suggest(name: str, names: list[str] | set[str]) -> str:
    by_lower = {known.lower(): known for known in sorted(names)}
    close = get_close_matches(name.lower(), by_lower, n=3, cutoff=0.6)
    close = [by_lower[match] for match in close]
    return f' Do you mean {" or ".join(close)}?' if close else ''


def _name(builder: Callable) -> str:
    return getattr(builder, '__name__', repr(builder))


def is_missing(path: object) -> bool:
    """Tell whether a value is a local path with nothing there."""
    return (
        isinstance(path, str)
        and '://' not in path
        and not os.path.exists(os.path.expanduser(path))
    )

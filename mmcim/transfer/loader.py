# Copyright (c) mmcim contributors. All rights reserved.
"""Load pre-trained weights so that all of them arrive, or none and an error."""

import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmcv.cnn import bricks
from mmengine.logging import print_log
from timm import layers
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from ..utils.errors import ConfigError
from .after_pretraining import config_after_pretraining
from .fit import (
    Fit,
    complete_by_hooks,
    fit_tensors,
    holds_numbers_for,
    wanted_tensors,
)
from .layout import backbone_prefix, is_derived
from .naming import to_mmpretrain
from .reading import Weights, read_weights
from .report import LoadReport, enumerate_names
from .resize import Grid
from .source import TrainedBackbone

# Below it mmpretrain's TIMMBackbone holds the network.
_TIMM_BACKBONE = 'timm_model.'
# Attributes of modules that change what a network computes, but none of its shapes.
_FUNCTION = ('num_heads', 'eps', 'style', 'approximate')


@dataclass
class _Candidate:
    """One way to see a module in a file.

    Attributes:
        module (nn.Module): What is loaded: the given module, or the network inside it.
        path (str): Prefix of ``module`` inside the given one.
        inner (str): Prefix of the backbone inside ``module``; '' if it is all backbone.
        prefix (str): Prefix in the file of the tensors of ``module``.
        tensors (dict[str, Tensor]): The file's tensors below ``prefix``.
        fit (Fit): How they fit the backbone.
    """

    module: nn.Module
    path: str
    inner: str
    prefix: str
    tensors: dict[str, Tensor]
    fit: Fit

    @property
    def complete(self) -> bool:
        return bool(self.fit.ready) and not self.fit.problems

    @property
    def backbone(self) -> nn.Module:
        return self.module.get_submodule(self.inner.rstrip('.'))

    @property
    def part(self) -> dict[str, Tensor]:
        """The file's tensors of the backbone."""
        return _below(self.tensors, self.inner)

    @property
    def in_file(self) -> str:
        """Prefix of the backbone in the file."""
        return self.prefix + self.inner


def load_backbone_weights(
    module: nn.Module,
    checkpoint: str | Path,
    prefix: str | None = None,
    grid: Grid | None = None,
    map_location: Any = 'cpu',
) -> LoadReport:
    """Load all tensors of a backbone from whatever file they are in, and report.

    Names of timm, BEiT, MAE and torchvision are understood. Position embeddings and
    tables of relative positions are resized, and copied from shared to layers or back.
    Of a whole classifier, segmentor or pre-training only the backbone has to be in the
    file; its other parts are loaded where they are there in the same shape.

    Where the backbone is in the file is found by looking: under each prefix of names in
    it, the tensors are compared with the module's. A file that says itself where its
    backbone is (mmcim's checkpoints do) is believed.

    Args:
        module (nn.Module): A backbone, a model with a backbone, or any other module, all
            of which is then required.
        checkpoint (str | Path): Training checkpoint, state dict, safetensors file, or
            URL; see :func:`mmcim.transfer.read_weights`.
        prefix (str, optional): What the names in the file begin with. By default it is
            looked for.
        grid (tuple[int, int], optional): Rows and columns of patches of the file's
            network, if they are no square and the file does not tell. Defaults to None.
        map_location (Any): Where the file is read to. Defaults to 'cpu'.

    Returns:
        LoadReport: What has been loaded; it is also logged.

    Raises:
        ConfigError: If any of the backbone's tensors is not there in a fitting shape, if
            the file's network has more layers, or anything in them, that the module does
            not have, if it says that its network has other heads, activations or the
            like, which no shape shows, if it fits in several places, if values are
            infinite or NaN, or if it cannot be read. The module is unchanged then.
    """
    weights = read_weights(checkpoint, map_location)
    if prefix and not prefix.endswith('.'):
        prefix += '.'
    chosen = _choose(module, weights, str(checkpoint), prefix, grid)
    if weights.config and chosen.in_file == weights.prefix:
        _check_function(chosen.backbone, weights.config, str(checkpoint))
    rest = _other_parts(chosen)
    _check_finite({**chosen.fit.ready, **rest}, str(checkpoint))
    chosen.module.load_state_dict(
        {**rest, **{chosen.inner + k: v for k, v in chosen.fit.ready.items()}},
        strict=False,
    )
    report = _report(module, chosen, rest, weights, str(checkpoint))
    print_log(str(report), logger='current')
    return report


def _choose(
    module: nn.Module,
    weights: Weights,
    checkpoint: str,
    prefix: str | None,
    grid: Grid | None,
) -> _Candidate:
    """Find the one place in the file where all of the backbone is."""
    try:
        renamed = to_mmpretrain(weights.tensors)
    except ValueError as error:
        raise ConfigError(f'checkpoint {checkpoint}: {error}') from error
    # A network of timm itself wants timm's names.
    same = renamed.keys() == weights.tensors.keys()
    namings = [renamed] if same else [renamed, weights.tensors]
    candidates = []
    for level, path in _levels(module):
        at_level = [
            candidate
            for tensors in namings
            for candidate in _candidates(level, path, tensors, weights, grid)
        ]
        allowed = [c for c in at_level if _allowed(c, weights, prefix)]
        if not any(c.complete for c in allowed):
            most = max((len(c.fit.ready) for c in allowed), default=0)
            for candidate in allowed:
                if len(candidate.fit.ready) == most:
                    complete_by_hooks(candidate.backbone, candidate.part, candidate.fit)
        # Where renaming touches other networks only, both namings fit alike.
        complete = {c.prefix: c for c in reversed(allowed) if c.complete}
        if len(complete) == 1:
            return complete.popitem()[1]
        if complete:
            places = sorted(complete)
            raise ConfigError(
                f'checkpoint {checkpoint} has {len(places)} networks that are a '
                f'{type(level).__name__} like this one; say which by prefix, one of '
                f'{", ".join(map(repr, places))}'
            )
        candidates += at_level
    raise ConfigError(_explain(module, candidates, weights, checkpoint, prefix))


def _levels(module: nn.Module, path: str = '') -> Iterator[tuple[nn.Module, str]]:
    """The module and the networks inside it that a plain file may be of."""
    yield module, path
    for inner in (backbone_prefix(module), _TIMM_BACKBONE):
        if inner and inner.split('.')[0] in module._modules:
            child = module.get_submodule(inner.rstrip('.'))
            yield from _levels(child, path + inner)
            return


def _candidates(
    module: nn.Module,
    path: str,
    tensors: dict[str, Tensor],
    weights: Weights,
    grid: Grid | None,
) -> Iterator[_Candidate]:
    """Compare a module with what is under each prefix in the file."""
    inner = backbone_prefix(module) or ''
    backbone = module.get_submodule(inner.rstrip('.'))
    wanted = wanted_tensors(backbone)
    for prefix in _prefixes(tensors):
        below = _below(tensors, prefix)
        part = _below(below, inner)
        if any(name in wanted for name in part):
            told = weights.grid if prefix + inner == weights.prefix else None
            fit = fit_tensors(backbone, part, grid or told)
            yield _Candidate(module, path, inner, prefix, below, fit)


def _prefixes(tensors: dict[str, Tensor]) -> list[str]:
    """All that names may begin with, from '' to all but their last part."""
    found = {''}
    for name in tensors:
        parts = name.split('.')
        found.update('.'.join(parts[:i]) + '.' for i in range(1, len(parts)))
    return sorted(found, key=lambda prefix: (prefix.count('.'), prefix))


def _below(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {k[len(prefix) :]: v for k, v in tensors.items() if k.startswith(prefix)}


def _allowed(candidate: _Candidate, weights: Weights, prefix: str | None) -> bool:
    """An explicit prefix decides, then what the file says, then looking alone."""
    if prefix is not None:
        return candidate.prefix == prefix
    return weights.prefix in (None, candidate.in_file)


def _check_function(backbone: nn.Module, config: dict, checkpoint: str) -> None:
    """Compare what changes a network's function and no shape.

    Raises:
        ConfigError: If the file's network computes something else.
    """
    try:
        with torch.random.fork_rng(devices=[]):
            trained = TrainedBackbone(checkpoint, {}, config, {}).build()
    except ConfigError as error:  # e.g. of a class that is not imported here
        print_log(
            f'Only names and shapes were compared, not heads and norms: {error}',
            logger='current',
            level=logging.WARNING,
        )
        return
    theirs = dict(trained.named_modules())
    differences: dict[str, list[str]] = {}
    for name, module in backbone.named_modules():
        for found in _differences(module, theirs.get(name)):
            names = differences.setdefault(found, [])
            names.append(name or type(module).__name__)
    if differences:
        found = [f'{what}: {enumerate_names(v)}' for what, v in differences.items()]
        raise ConfigError(
            f'checkpoint {checkpoint} fits a {type(backbone).__name__} in all shapes, '
            f'but was trained with {"; ".join(found)}. Say the same in the config of '
            'this network'
        )


def _differences(module: nn.Module, trained: nn.Module | None) -> Iterator[str]:
    """Say in what two modules of one name compute something else."""
    if trained is None:
        return
    for key in _FUNCTION:
        own, other = (getattr(m, key, None) for m in (module, trained))
        if None not in (own, other) and own != other:
            yield f'{key} {other} instead of {own}'
    # Others are made of these, which are compared themselves.
    if not [*module.children(), *trained.children()]:
        own, other = _kind(module), _kind(trained)
        if not issubclass(own, other) and not issubclass(other, own):
            yield f'{other.__name__} instead of {own.__name__}'


def _kind(module: nn.Module) -> type[nn.Module]:
    """Class of a module, without what differs in training alone."""
    if isinstance(module, _DropoutNd | bricks.DropPath | layers.DropPath):
        return nn.Identity
    return _BatchNorm if isinstance(module, _BatchNorm) else type(module)


def _check_finite(tensors: dict[str, Tensor], checkpoint: str) -> None:
    """Refuse the weights of a training that has diverged.

    Raises:
        ConfigError: If any value is infinite or no number.
    """
    broken = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ConfigError(
            f'checkpoint {checkpoint} has infinite values or NaN in '
            f'{enumerate_names(broken)}'
        )


def _other_parts(chosen: _Candidate) -> dict[str, Tensor]:
    """Tensors of heads and necks that are in the file in the same shape."""
    if not chosen.inner:
        return {}
    own = wanted_tensors(chosen.module)
    return {
        name: value
        for name, value in chosen.tensors.items()
        if not name.startswith(chosen.inner)
        and name in own
        and own[name].shape == value.shape
        and holds_numbers_for(value, own[name])
    }


def _report(
    module: nn.Module,
    chosen: _Candidate,
    rest: dict[str, Tensor],
    weights: Weights,
    checkpoint: str,
) -> LoadReport:
    fit, inside = chosen.fit, chosen.path + chosen.inner
    matched = [inside + name for name in fit.ready]
    matched += [chosen.path + name for name in rest]
    new = [inside + name for name in fit.new]
    expected = wanted_tensors(module)
    elsewhere = Counter(
        name.split('.')[0]
        for name in weights.tensors
        if not name.startswith(chosen.in_file)
        and name.removeprefix(chosen.prefix) not in rest
        and not is_derived(name)
    )
    return LoadReport(
        checkpoint=checkpoint,
        prefix=chosen.in_file,
        matched=matched,
        total=fit.total,
        resized={inside + name: size for name, size in fit.resized.items()},
        converted=fit.converted,
        new=new,
        missing=[name for name in expected if name not in {*matched, *new}],
        unused=fit.unused,
        elsewhere=dict(elsewhere),
    )


def _explain(
    module: nn.Module,
    candidates: list[_Candidate],
    weights: Weights,
    checkpoint: str,
    prefix: str | None,
) -> str:
    """Say what does not fit, where it would, and what to do."""
    name = type(module).__name__
    complete = sorted({c.prefix for c in candidates if c.complete})
    fixed = [c for c in candidates if _allowed(c, weights, prefix)]
    best = max(
        fixed or ([] if prefix is not None else candidates),
        key=lambda c: (len(c.fit.ready), -len(c.fit.problems), -len(c.prefix)),
        default=None,
    )
    lines = [f'checkpoint {checkpoint} does not have all weights of a {name}']
    if best is None:
        begins = sorted({key.split('.')[0] for key in weights.tensors})
        under = f' under prefix {prefix!r}' if prefix else ''
        lines[0] += f': none of its tensors{under} is named like one of the module'
        lines.append(f'its names begin with: {enumerate_names(begins)}')
    else:
        if len(best.fit.ready) == best.fit.total:
            lines = [f'checkpoint {checkpoint} has more than the weights of a {name}']
        lines[0] += (
            f': {len(best.fit.ready)} of {best.fit.total} tensors match, at best, with '
            f'prefix {best.prefix!r}'
        )
        lines += _problems(best.fit)
    if prefix is not None and weights.prefix not in (None, prefix, *complete):
        lines.append(f"the file's own backbone has the prefix {weights.prefix!r}")
    if complete:
        places = ' or '.join(map(repr, complete))
        lines.append(f'all of them match with prefix {places}: give that if it is meant')
    elif best is None:
        lines.append('give a checkpoint of this kind of network')
    else:
        lines.append(
            "let the module's config (type, arch, patch_size, ...) be the one of the "
            'checkpoint, or give another checkpoint'
        )
        if weights.config:
            config = config_after_pretraining(weights.config).items()
            config = sorted(config, key=lambda item: item[0] != 'type')
            own = ', '.join(f'{key}={value!r}' for key, value in config)
            lines.append(f"the checkpoint's network is dict({own})")
    return '\n  '.join(lines)


def _problems(fit: Fit) -> Iterator[str]:
    """List what does not fit, tensors with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, reason in fit.problems.items():
        by_reason.setdefault(reason, []).append(name)
    for reason, names in by_reason.items():
        yield f'{reason}: {enumerate_names(names)}'

# Copyright (c) mmcim contributors. All rights reserved.
"""Load pre-trained weights so that all of the backbone arrives, or none and an error."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path

import mmpretrain.registry
import mmseg.registry
from mmengine.logging import print_log
from mmengine.model import PretrainedInit
from mmengine.model.weight_init import update_init_info
from mmpretrain.models.backbones import TIMMBackbone
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from ..utils.errors import ConfigError
from .file import BackboneFile
from .layout import Grid, backbone_prefix, is_derived, starts_anew
from .names import TIMM_MODEL, from_mmpretrain, to_mmpretrain
from .record import describe_function
from .report import LoadReport, enumerate_names
from .resize import convert_relative_position_tables, resize_positions

# Where the backbone is in files that do not record it; the first that matches most.
PREFIXES = (
    '',
    'backbone.',
    'module.',
    'module.backbone.',
    'model.',
    'model.backbone.',
    'encoder.',
    'timm_model.',
    'backbone.timm_model.',
    'teacher.backbone.',
    'student.backbone.',
    'student.module.backbone.',
    'enhancer.backbone.',
)
# What the layers of a transformer work on or with, by the names of mmpretrain and timm.
# A class token is not among them: a network may deliberately do without.
_INPUTS = (
    'dist_token',
    'norm_pre',
    'pos_embed',
    'pre_norm',
    'reg_token',
    'register_tokens',
    'rel_pos_bias',
)


def load_into(
    module: nn.Module,
    file: BackboneFile | str | Path,
    prefix: str | None = None,
    grid: Grid | None = None,
) -> LoadReport:
    """Load all tensors of a backbone from a file of weights, and report.

    Names of timm, BEiT, MAE and torchvision are understood. Position embeddings and
    relative position bias tables are resized, and copied from shared to layers or back.
    Of a whole classifier, segmentor or pre-training only the backbone has to be in the
    file; its other parts are loaded where they are there in the same shape.

    Args:
        module: A backbone, a model with a backbone, or any other module, all of which is
            then required. Unchanged after an error.
        file: See :func:`mmcim.checkpoints.read_weights`.
        prefix: What the names of the backbone's tensors in the file begin with. By
            default the one that the file records, else the first of :data:`PREFIXES`
            with the most of the module's names.
        grid: Rows and columns of patches of the file's network, if they are not a square
            and the file does not record them.

    Returns:
        What has been loaded; it is also logged. The backbone's attribute
        ``normalization`` is that of the file, see
        :attr:`mmcim.checkpoints.BackboneFile.normalization`.

    Raises:
        ConfigError: If any of the backbone's tensors is not there in a fitting shape, if
            the file's network has more layers, or anything in them, that the module does
            not have, if it has other heads, activations or the like, which no shape
            shows, if values are infinite or NaN, or if it cannot be read.
    """
    if not isinstance(file, BackboneFile):
        file = BackboneFile.read(file, prefix)
    inner = _backbone_of(module)
    backbone = module.get_submodule(inner.rstrip('.'))
    prefix, tensors = _find(file, inner, backbone)
    report = LoadReport(file.path, type(backbone).__name__, prefix)
    if file.record and prefix.removesuffix(TIMM_MODEL) == file.record.prefix:
        _check_function(backbone, file)
        grid = grid or file.record.grid
    ready = _fit(backbone, tensors, grid, report)
    if report.problems:
        raise ConfigError(report.error())
    ready = {inner + name: value for name, value in ready.items()}
    ready |= _other_parts(module, file, prefix, inner)
    _check_finite(ready, file.path)
    module.load_state_dict(ready, strict=False)
    path = inner.removesuffix(TIMM_MODEL).rstrip('.')
    module.get_submodule(path).normalization = file.normalization
    report.matched = [*ready]
    new = {inner + name for name in report.new}
    report.missing = [n for n in _tensors_of(module) if n not in ready and n not in new]
    report.elsewhere = _elsewhere(file, prefix, prefix.removesuffix(inner), report)
    print_log(str(report), logger='current')
    return report


class Pretrained(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', ...)`` that loads all of a backbone.

    In configs of mmpretrain and mmseg it takes the place of mmengine's initializer,
    which warns about what has not been loaded and leaves it random. See
    :func:`load_into`.

    Args:
        checkpoint: A file, or a URL such as ``https://``, ``torchvision://`` or
            ``open-mmlab://``.
        prefix: What the names of the backbone's tensors in the file begin with.
        map_location: Where the file is read to.
        grid: Rows and columns of patches of the file's network, if they are not a square
            and the file does not record them.

    Raises:
        ConfigError: If not all of the backbone's weights are there, or would not stay.
    """

    def __init__(
        self,
        checkpoint: str,
        prefix: str | None = None,
        map_location: str = 'cpu',
        grid: Grid | None = None,
    ) -> None:
        super().__init__(checkpoint, prefix, map_location)
        self.grid = None if grid is None else tuple(grid)

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a module."""
        if isinstance(module, BaseBackbone) and isinstance(module.init_cfg, list):
            # They look for a dict of type 'Pretrained' to know that they must not.
            raise ConfigError(
                f'init_cfg of a {type(module).__name__} is a list, and then mmpretrain '
                'initialises some of its tensors after they have been loaded from '
                f"{self.checkpoint}; give init_cfg=dict(type='Pretrained', ...) alone"
            )
        file = BackboneFile.read(self.checkpoint, self.prefix, self.map_location)
        load_into(module, file, grid=self.grid)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


# Under this very name, which mmpretrain's networks compare literally.
for registry in (mmpretrain.registry, mmseg.registry):
    registry.WEIGHT_INITIALIZERS.register_module('Pretrained', module=Pretrained)


def _backbone_of(module: nn.Module) -> str:
    """Prefix in a module of the network that a file may be of; '' if it is all of it."""
    prefix = backbone_prefix(module) or ''
    if isinstance(module.get_submodule(prefix.rstrip('.')), TIMMBackbone):
        prefix += TIMM_MODEL
    return prefix


def _tensors_of(module: nn.Module) -> dict[str, Tensor]:
    """Parameters and persistent buffers that do not follow from the module's size."""
    return {
        name: value
        for name, value in module.state_dict().items()
        if isinstance(value, Tensor) and not is_derived(name)
    }


def _find(
    file: BackboneFile, inner: str, backbone: nn.Module
) -> tuple[str, dict[str, Tensor]]:
    """Give the backbone's prefix in the file, and its tensors by the module's names."""
    # A network of timm itself wants timm's names.
    rename = from_mmpretrain if hasattr(backbone, 'blocks') else to_mmpretrain
    wanted = _tensors_of(backbone).keys()
    prefixes: Iterable[str] = (inner, *PREFIXES)
    if file.prefix is not None:
        prefixes = (file.prefix, file.prefix + TIMM_MODEL)
    try:
        found = {prefix: rename(file.below(prefix)) for prefix in prefixes}
    except ValueError as error:
        raise ConfigError(f'checkpoint {file.path} {error}') from error
    prefix = max(found, key=lambda key: len(found[key].keys() & wanted))
    if found[prefix].keys() & wanted:
        return prefix, found[prefix]
    text = f'checkpoint {file.path} has no tensor of a {type(backbone).__name__}'
    text += '' if file.prefix is None else f' with prefix {file.prefix!r}'
    dots = {name[: m.end()] for name in file.tensors for m in re.finditer(r'\.', name)}
    matching = [p for p in sorted(dots) if rename(file.below(p)).keys() >= wanted]
    if matching:
        raise ConfigError(f'{text}; select one with prefix: {", ".join(matching)}')
    begins = sorted({name.split('.')[0] for name in file.tensors})
    raise ConfigError(f'{text}; its names begin with: {enumerate_names(begins)}')


def _fit(
    backbone: nn.Module,
    given: dict[str, Tensor],
    grid: Grid | None,
    report: LoadReport,
) -> dict[str, Tensor]:
    """Resize, share or copy what has to be, and note in the report what does not fit."""
    wanted = _tensors_of(backbone)
    report.converted, report.problems = convert_relative_position_tables(given, wanted)
    ready = {}
    for name in [name for name in wanted if name in given]:
        own = wanted[name]
        try:
            value = resize_positions(backbone, name, given[name], own, grid)
        except ValueError as error:
            report.problems[name] = str(error)
            continue
        if value.shape != own.shape:
            shapes = [tuple(t.shape) for t in (value, own)]
            report.problems[name] = f'of shape {shapes[0]} instead of {shapes[1]}'
        elif not _same_kind(value, own):
            report.problems[name] = f'of {value.dtype} instead of {own.dtype}'
        else:
            ready[name] = value
            if value is not given[name]:
                before, after = (t[..., 0].numel() for t in (given[name], value))
                report.resized[name] = before, after
    for name in [name for name in wanted if name not in given]:
        if starts_anew(backbone, name):
            report.new.append(name)
        elif wanted[name].is_floating_point():  # not a counter
            report.problems.setdefault(name, 'missing')
    report.total = len(ready) + len(report.problems)
    report.unused = [name for name in given if name not in wanted]
    surplus = _surplus(wanted, {name: given[name] for name in report.unused})
    report.problems |= dict.fromkeys(surplus, 'in the file, but not in the module')
    return ready


def _same_kind(value: Tensor, own: Tensor) -> bool:
    """Whether a tensor is of floating point where the module's own is."""
    return value.is_floating_point() or not own.is_floating_point()


def _surplus(wanted: Mapping[str, Tensor], unused: Mapping[str, Tensor]) -> list[str]:
    """Find what the file's network computes with and the module does not have.

    That is all within the parts that both have, such as further layers, or scales, norms
    and biases in a layer, and what goes into the layers. The module may do without whole
    parts: heads, decoders, norms of the output, a mask token, last stages.
    """
    common = {name.partition('.')[0] for name in wanted if '.' in name}
    return [
        name
        for name, value in unused.items()
        if name.partition('.')[0] in {*common, *_INPUTS}
        # A counter; the head that timm keeps beside a norm; a bias of keys, which adds
        # the same to all scores that a softmax compares.
        and value.is_floating_point()
        and 'head' not in name.split('.')
        and not name.endswith('attn.k_bias')
    ]


def _check_function(backbone: nn.Module, file: BackboneFile) -> None:
    """Compare what changes a network's features and no shape.

    Raises:
        ConfigError: If the file's network computes something else.
    """
    own = describe_function(backbone)
    differences: dict[str, list[str]] = {}
    for name, value in file.record.function.items():
        if own.get(name, value) != value:
            path, _, key = name.rpartition('.')
            what = f'{key} {value} instead of {own[name]}'
            differences.setdefault(what, []).append(path or type(backbone).__name__)
    if differences:
        found = [f'{what}: {enumerate_names(v)}' for what, v in differences.items()]
        raise ConfigError(
            f'checkpoint {file.path} fits a {type(backbone).__name__} in all shapes, but '
            f'was trained with {"; ".join(found)}. Set the same in the config of this '
            'network'
        )


def _check_finite(tensors: Mapping[str, Tensor], path: str) -> None:
    """Refuse the weights of a training that has diverged."""
    broken = [
        name
        for name, value in tensors.items()
        if value.is_floating_point() and not value.isfinite().all()
    ]
    if broken:
        raise ConfigError(
            f'checkpoint {path} has infinite values or NaN in {enumerate_names(broken)}'
        )


def _elsewhere(
    file: BackboneFile, prefix: str, outer: str, report: LoadReport
) -> Counter[str]:
    """Count what of a file was not loaded and is of no backbone."""
    return Counter(
        name.split('.')[0]
        for name in file.tensors
        if not name.startswith(prefix)
        and name.removeprefix(outer) not in report.matched
        and not is_derived(name)
    )


def _other_parts(
    module: nn.Module, file: BackboneFile, prefix: str, inner: str
) -> dict[str, Tensor]:
    """Tensors of heads and necks that are in the file in the same shape."""
    if not inner or not prefix.endswith(inner):
        return {}
    own = _tensors_of(module)
    return {
        name: value
        for name, value in file.below(prefix.removesuffix(inner)).items()
        if not name.startswith(inner)
        and name in own
        and own[name].shape == value.shape
        and _same_kind(value, own[name])
    }

# Copyright (c) mmcim contributors. All rights reserved.
"""Load pre-trained weights so that all of the backbone arrives, or none and an error."""

import re
from collections.abc import Mapping
from pathlib import Path

from mmengine.logging import MMLogger
from mmengine.model import PretrainedInit
from mmengine.model.weight_init import update_init_info
from mmpretrain.models.backbones.base_backbone import BaseBackbone
from torch import Tensor, nn

from ..utils.errors import ConfigError
from ..utils.scopes import REGISTRIES
from .file import BackboneFile
from .layout import backbone_prefix, starts_anew, tensors_of
from .names import from_mmpretrain, to_mmpretrain
from .record import BackboneRecord, describe_function
from .report import LoadReport, group
from .resize import copy_shared_table, resize_positions

# Where the backbone is in files that do not record it; the first that matches most.
PREFIXES = tuple(
    outer + inner
    for outer in ('', 'module.', 'model.', 'encoder.', 'teacher.', 'student.')
    for inner in ('', 'backbone.')
)
# What the layers of a transformer work on or with begins so in mmpretrain and timm; reg
# are registers. A network may deliberately do without a class token.
_INPUTS = ('dist_token', 'norm_pre', 'pos_embed', 'pre_norm', 'reg', 'rel_pos_bias')


def load_into(
    module: nn.Module, file: BackboneFile | str | Path, prefix: str | None = None
) -> LoadReport:
    """Load all tensors of a backbone from a file of weights, and report.

    Names of timm, BEiT, MAE and torchvision are understood. Position embeddings and
    relative position bias tables are resized, and a shared table is copied to the layers.
    Of a whole classifier, segmentor or pre-training only the backbone has to be in the
    file; its other parts are loaded where they are there in the same shape.

    Args:
        module: A backbone, a model with a backbone, or any other module, all of which is
            then required. Unchanged after an error.
        file: See :func:`mmcim.checkpoints.read_weights`.
        prefix: What the names of the backbone's tensors in the file begin with. By
            default the one that the file records, else the first of :data:`PREFIXES`
            with the most of the module's names.

    Returns:
        What has been loaded; it is also logged. The backbone gets the file's
        :attr:`~mmcim.checkpoints.BackboneFile.normalization` as attribute.

    Raises:
        ConfigError: If the file cannot be read, if any of the backbone's tensors is not
            there in a fitting shape or is infinite or NaN, or if the file's network
            computes with more than the module, or with other heads, norms or the like.
    """
    if not isinstance(file, BackboneFile):
        file = BackboneFile.read(file, prefix)
    inner = backbone_prefix(module) or ''
    backbone = module.get_submodule(inner.rstrip('.'))
    try:
        prefix, given = _find(file, inner, backbone)
        report = LoadReport(file.path, prefix)
        fitted = _fit(backbone, given, file.record, report)
        ready = {inner + name: value for name, value in fitted.items()}
    except ValueError as error:
        raise ConfigError(f'checkpoint {file.path} {error}') from error
    own, outer = tensors_of(module), prefix.removesuffix(inner)
    heads = file.below(outer) if outer != prefix else {}  # and necks
    ready |= {
        name: value
        for name, value in heads.items()
        if not name.startswith(inner) and name in own and value.shape == own[name].shape
    }
    module.load_state_dict(ready, strict=False)
    backbone.normalization = file.normalization  # type: ignore[assignment]
    new = {inner + name for name in report.new}
    report.missing = [n for n in own if n not in ready and n not in new]
    report.unused += dict.fromkeys(
        re.sub(r'\..*', '.*', name)
        for name in file.tensors
        if not name.startswith(prefix) and name.removeprefix(outer) not in ready
    )
    MMLogger.get_current_instance().info(str(report))
    return report


class Pretrained(PretrainedInit):
    """``init_cfg=dict(type='Pretrained', ...)`` that loads all of a backbone.

    In configs of mmpretrain, mmseg and mmdet it takes the place of mmengine's
    initializer, which warns about what has not been loaded and leaves it random. See
    :func:`load_into`.

    Args:
        checkpoint: A file, or a URL such as ``https://``, ``torchvision://`` or
            ``open-mmlab://``.
        prefix: What the names of the backbone's tensors in the file begin with.
        map_location: Has no effect: files are read to the CPU.

    Raises:
        ConfigError: If not all of the backbone's weights are there, or would not stay.
    """

    def __call__(self, module: nn.Module) -> None:
        """Load the weights into a module."""
        if isinstance(module, BaseBackbone) and isinstance(module.init_cfg, list):
            # They look for a dict of type 'Pretrained' to know that they must not.
            raise ConfigError(
                f'init_cfg of a {type(module).__name__} is a list, so mmpretrain alters '
                f"what {self.checkpoint} sets; give dict(type='Pretrained', ...) alone"
            )
        load_into(module, self.checkpoint, self.prefix)
        if hasattr(module, '_params_init_info'):
            update_init_info(module, init_info=self._get_init_info())


# Under this very name, which mmpretrain's networks compare literally.
for library in REGISTRIES:
    library.WEIGHT_INITIALIZERS.register_module('Pretrained', module=Pretrained)


def _find(
    file: BackboneFile, inner: str, backbone: nn.Module
) -> tuple[str, dict[str, Tensor]]:
    """Give the backbone's prefix in the file, and its tensors by the module's names."""
    # A network of timm itself wants timm's names.
    convert = from_mmpretrain if hasattr(backbone, 'blocks') else to_mmpretrain
    wanted = tensors_of(backbone).keys()
    prefixes = (inner, *PREFIXES) if file.prefix is None else (file.prefix,)
    found = {prefix: convert(file.below(prefix)) for prefix in prefixes}
    prefix = max(found, key=lambda key: len(found[key].keys() & wanted))
    if found[prefix].keys() & wanted:
        return prefix, found[prefix]
    dots = {name[: m.end()] for name in file.tensors for m in re.finditer(r'\.', name)}
    matching = [p for p in sorted(dots) if convert(file.below(p)).keys() >= wanted]
    begins = matching or sorted({name.split('.')[0] for name in file.tensors})
    told = '' if file.prefix is None else f' with prefix {file.prefix!r}'
    told += f'; its names begin with: {", ".join(begins)}'
    raise ValueError(f'has no tensor of a {type(backbone).__name__}{told}')


def _fit(
    backbone: nn.Module,
    given: dict[str, Tensor],
    record: BackboneRecord | None,
    report: LoadReport,
) -> dict[str, Tensor]:
    """Resize, share or copy what has to be, and compare everything.

    Args:
        backbone: The network.
        given: Tensors of the file by the network's names; changed in place.
        record: What the file says of its network.
        report: Notes what has been done.

    Returns:
        The backbone's tensors that the file has.

    Raises:
        ValueError: If anything does not fit.
    """
    wanted = tensors_of(backbone)
    copy_shared_table(given, wanted)
    grid = record.grid if record else None
    problems, ready = _differences(backbone, record), {}
    for name, own in wanted.items():
        if name not in given:
            if starts_anew(backbone, name):
                report.new.append(name)
            elif own.is_floating_point():  # not a counter
                problems[name] = 'missing'
            continue
        try:
            value = resize_positions(backbone, name, given[name], own, grid)
        except ValueError as error:
            problems[name] = str(error)
            continue
        plain = value.is_floating_point() and bool(value.isfinite().all())
        if value.shape != own.shape:
            shape = tuple(value.shape)
            problems[name] = f'of shape {shape} instead of {tuple(own.shape)}'
        elif own.is_floating_point() and not plain:
            problems[name] = 'with integers, infinite values or NaN'
        else:
            ready[name] = value
        if value is not given[name]:
            report.resized[name] = given[name][..., 0].numel(), value[..., 0].numel()
    report.total = total = len(ready) + len(problems.keys() & wanted.keys())
    report.unused = [name for name in given if name not in wanted]
    surplus = _surplus(wanted, {name: given[name] for name in report.unused})
    problems |= dict.fromkeys(surplus, 'in the file, but not in the module')
    if problems:
        raise ValueError(
            f'does not fit a {type(backbone).__name__}: {len(ready)} of {total} tensors '
            f'match, with prefix {report.prefix!r}. {group(problems)}. Set type, arch, '
            'patch_size, ... as in its training, or take another prefix or checkpoint'
        )
    return ready


def _differences(backbone: nn.Module, record: BackboneRecord | None) -> dict[str, str]:
    """Compare what no tensor shows, such as heads and activations, with the record."""
    own = describe_function(backbone)
    return {
        name.lstrip('.'): f'{value} instead of {own[name]}'
        for name, value in (record.function if record else {}).items()
        if own.get(name, value) != value
    }


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
        if (name.partition('.')[0] in common or name.startswith(_INPUTS))
        # A counter; the head that timm keeps beside a norm; a bias of keys, which adds
        # the same to all scores that a softmax compares.
        and value.is_floating_point()
        and 'head' not in name.split('.')
        and not name.endswith('attn.k_bias')
    ]

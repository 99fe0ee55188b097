# Copyright (c) mmcim contributors. All rights reserved.
"""Take the backbone of a file into the config of a task.

The file records its architecture and normalization; what is to be done with it (which
features, which layers are frozen, the size of the images) is the config's.
"""

from typing import Any

from mmengine.config import Config, ConfigDict
from mmengine.registry import MODELS as ROOT
from mmpretrain.models import BaseSelfSupervisor
from mmpretrain.models.utils import to_2tuple
from mmpretrain.registry import MODELS
from torch import nn

from ..utils.arguments import keyword_arguments
from ..utils.errors import ConfigError
from .file import BackboneFile
from .layout import last_of_quarters
from .trusted import registered_class, trusted_backbone_config

# What the config, and not the file, says of a backbone. Of the first the file's hold
# where the config has none; the others were those of its training.
_FEATURES = ('img_size', 'out_type', 'final_norm')
_TRAINING = ['frozen_stages', 'out_indices', 'norm_eval', 'with_cp', 'strides']
_TRAINING += ['dilations', 'contract_dilation', 'drop_rate', 'drop_path_rate']
# What loads a file of these, or of a class derived from them, for large images.
_WINDOWED = {'FusedBEiTViT': 'WindowedBEiTViT', 'VisionTransformer': 'WindowedViT'}


@MODELS.register_module('PretrainedBackbone')
def build_pretrained(**task: Any) -> nn.Module:
    """Build the backbone of a file; its ``init_cfg`` then loads the weights.

    ``StrictRunner`` puts the network into the config before, so that the rest of the
    model follows: see :func:`adopt_pretrained`.

    Args:
        **task: ``checkpoint``, a plain backbone or a training checkpoint, and what the
            task sets: ``img_size``, ``out_type``, ``out_indices``, ``final_norm``,
            ``frozen_stages`` (all of them are frozen if it is above 0), ``strides``,
            ``dilations``, drop rates, and ``window_size`` where a ViT attends in windows
            (:class:`~mmcim.models.WindowedViT`). ``default_type`` is the type of a
            network with all of these arguments, for files that do not record theirs.
    """
    cfg = ConfigDict(model=dict(backbone=dict(task, type='PretrainedBackbone')))
    adopt_pretrained(cfg)
    return ROOT.build(cfg.model.backbone)


def adopt_pretrained(cfg: Config | ConfigDict) -> None:
    """Replace a ``PretrainedBackbone`` in a config, in place, and let the rest follow it.

    Preprocessing takes the file's mean and std, the rescaling in a pyramid of features
    its patch size. A classifier on frozen features takes its width; any other is part of
    a recipe for backbones of one width. These may be 'auto' anywhere in the config:

    - ``in_channels`` and ``embed_dim``: the width of a transformer;
    - ``out_indices``: four of its layers, evenly spaced up to the last;
    - ``size`` and ``crop_size``: the backbone's ``img_size``, 224 if it has none; and
      ``scale``, such that the short edge of images becomes the short side of that;
    - ``num_classes``: the number of ``train_dataloader.dataset.metainfo.classes``.

    Raises:
        ConfigError: If the file cannot be read, if it records no network and there is no
            ``default_type``, if it is of another width, or if the model is a
            pre-training.
    """
    model = cfg.get('model') or {}
    model = model.get('module', model)  # test-time augmentation is around it
    task = dict(model.get('backbone') or {})
    if str(task.pop('type', None)).rpartition('.')[2] != 'PretrainedBackbone':
        return
    file = BackboneFile.read(task.pop('checkpoint'))
    if issubclass(registered_class(model.get('type')) or object, BaseSelfSupervisor):
        raise ConfigError(
            f'a {model.type} keeps its own backbone; load_from={file.path!r} in the '
            'config starts its training with these weights'
        )
    default = task.pop('default_type', None)
    if file.record or default is None:
        net = file.build()
        known = _auto_values(net, task, cfg)
        for part in (task, cfg):
            _fill_in(part, known)
        default, task = _adopt(file, net, task, model, default)
    model.backbone = ConfigDict(task, type=default)
    whole = model.get('init_cfg')
    whole = isinstance(whole, dict) and whole.get('type') == 'Pretrained'
    model.backbone.init_cfg = None  # where the whole model, with its head, is loaded
    loads = model if whole else model.backbone
    loads.init_cfg = ConfigDict(type='Pretrained', checkpoint=file.path)
    mean, std = file.normalization or (None, None)
    for owner in (cfg, model):
        if mean and owner.get('data_preprocessor'):
            owner.data_preprocessor.update(mean=mean, std=std)


def _auto_values(net: Any, task: dict, cfg: Config | ConfigDict) -> dict[str, Any]:
    """Give what 'auto' stands for, by key."""
    size = tuple(to_2tuple(task.get('img_size') or getattr(net, 'img_size', 224)))
    known: dict[str, Any] = dict(size=size, crop_size=size)
    known['scale'] = 4 * min(size), min(size)
    data = (cfg.get('train_dataloader') or {}).get('dataset') or {}
    if classes := (data.get('metainfo') or {}).get('classes'):
        known['num_classes'] = len(classes)
    if depth := len(getattr(net, 'layers', ())):
        known['in_channels'] = known['embed_dim'] = net.embed_dims
        known['out_indices'] = last_of_quarters(depth)
    return known


def _fill_in(node: Any, known: dict[str, Any], name: str = '') -> None:
    """Replace each 'auto' in a nested container, in place, by the value of its key."""
    is_list = isinstance(node, list)
    items: Any = enumerate(node) if is_list else getattr(node, 'items', tuple)()
    for key, value in items:
        key_of_value = name if is_list else key
        if isinstance(value, str) and value == 'auto':
            node[key] = known.get(key_of_value, value)
        else:
            _fill_in(value, known, key_of_value)


def _adopt(
    file: BackboneFile, net: Any, task: dict, model: ConfigDict, default: str | None
) -> tuple[str, dict]:
    """Give a recorded network's type and arguments, and let necks and head follow.

    The config's type remains where it is derived from the file's and what the task sets
    is an argument of it alone, such as ``contract_dilation``.
    """
    config = trusted_backbone_config(file.record.config)  # type: ignore[union-attr]
    if config.get('use_shared_rel_pos_bias'):
        # As in BEiT, each layer begins with a copy of the table and has its own.
        del config['use_rel_pos_bias'], config['use_shared_rel_pos_bias']
    kind, config = _windowed(net, config, task)
    known = keyword_arguments(kind).keys() & {*_FEATURES, *_TRAINING}
    derived = registered_class(default) if default else None
    if derived and issubclass(derived, kind):
        added = keyword_arguments(derived).keys() & task.keys() & {*_TRAINING} - known
        config['type'], known = default if added else config['type'], known | added
    network = {k: v for k, v in config.items() if k not in _TRAINING}
    network |= {k: v for k, v in task.items() if k in known}
    if frozen := network.get('frozen_stages', -1) > 0:
        count = getattr(net, 'num_stages', len(getattr(net, 'layers', ())))
        network['frozen_stages'] = count
        parameters = file.build(frozen_stages=count).parameters()
        if any(parameter.requires_grad for parameter in parameters):
            raise ConfigError(
                f'{file.path} holds a {type(net).__name__}, whose frozen_stages do not '
                'freeze all of it; fine-tune it instead'
            )
    name = network.pop('type')

    neck = model.get('neck') if 'roi_head' in model else None
    head = model.get('decode_head') or model.get('head') or neck or {}
    wanted = head.get('in_channels')
    wanted = wanted[-1] if isinstance(wanted, list | tuple) else wanted
    width = getattr(net, 'embed_dims', getattr(net, 'feat_dim', wanted))
    necks = model.get('neck') or []
    for part in (head, *(necks if isinstance(necks, list) else [necks])):
        if frozen and part.get('type') in ('LinearClsHead', 'ClsBatchNormNeck'):
            part['in_channels' if part is head else 'input_features'] = wanted = width
        elif part.get('type') == 'Feature2Pyramid':
            ratio = network.get('patch_size', 16) / task.get('patch_size', 16)
            part.rescales = [r * ratio for r in part.get('rescales', (4, 2, 1, 0.5))]
    if wanted not in (None, width):
        wanted = 'transformers' if wanted == 'auto' else wanted
        raise ConfigError(
            f'{file.path} holds a {name.rpartition(".")[2]} with {width} channels, but '
            f'the config is for {wanted}: take the config of another backbone'
        )
    return name if '.' in name else f'mmpretrain.{name}', network


def _windowed(net: Any, config: dict, task: dict) -> tuple[Any, dict]:
    """Replace a file's ViT, if the task has windows, by the one that attends in them.

    Returns:
        Its class, and its config.
    """
    names = (_WINDOWED.get(cls.__name__) for cls in type(net).__mro__)
    name = next(filter(None, names), None)
    if name is None or 'window_size' not in task:
        return type(net), config
    kind: Any = registered_class(name)
    known = keyword_arguments(kind).keys() - {'out_type', 'final_norm'}
    if name == 'WindowedBEiTViT':  # its tables stay as they are
        task.pop('img_size', None)
    kept = {key: value for key, value in config.items() if key in known}
    return kind, dict(kept, type=name, window_size=task['window_size'])

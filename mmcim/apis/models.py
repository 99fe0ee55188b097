# Copyright (c) mmcim contributors. All rights reserved.
"""Networks from files."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain import FeatureExtractor, get_model
from mmpretrain.apis import ModelHub
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.checkpoints import BackboneFile, load_into
from mmcim.checkpoints.record import find_backbone_config
from mmcim.utils import ConfigError, load_config


def load_backbone(
    path: str | Path, device: str | torch.device = 'cpu', **overrides: Any
) -> nn.Module:
    """Rebuild a trained backbone.

    Args:
        path (str | Path): A plain backbone (``epoch_300_backbone.safetensors``) or the
            training checkpoint that it stands beside (``epoch_300.pth``), of a
            pre-training, classifier or segmentor.
        device (str | torch.device): Where it goes. Defaults to 'cpu'.
        **overrides: Arguments of the backbone in place of those that it was trained
            with, such as ``img_size`` (positions are resized), ``out_type`` or
            ``out_indices``.

    Returns:
        nn.Module: The network in evaluation mode, without what only its pre-training
        needs, such as masks, and with no parameter fixed by it. Its attribute
        ``normalization`` is the mean and the std of R, G and B that its pictures want,
        on the scale 0..1, or None if the file does not say.

    Raises:
        ConfigError: If the file is missing, damaged or does not say what it is of, or if
            the weights do not fit.

    Examples:
        >>> backbone = load_backbone('epoch_300_backbone.safetensors')
        >>> features = backbone(torch.randn(2, 3, 224, 224))[-1]
        >>> larger = load_backbone('epoch_300.pth', img_size=384, out_type='cls_token')
    """
    file = BackboneFile.read(path)
    backbone = file.build(**overrides)
    load_into(backbone, file)
    return backbone.to(device)


def feature_extractor(
    config: str | Path | Config,
    checkpoint: str | Path,
    device: str | torch.device = 'cpu',
) -> FeatureExtractor:
    """Build mmpretrain's ``FeatureExtractor`` for the backbone of any config.

    Of a pre-training only the backbone is built, so that neither the tokenizer's weights
    nor labels are needed. Pictures go through the config's test pipeline.

    Args:
        config (str | Path | Config): A pre-training or classifier, or a name in
            mmpretrain's ``ModelHub``.
        checkpoint (str | Path): Its checkpoint, a plain backbone, or any other file that
            :func:`mmcim.checkpoints.load_into` reads.
        device (str | torch.device): Where it goes. Defaults to 'cpu'.

    Returns:
        FeatureExtractor: Takes paths, arrays (H, W, 3; BGR, uint8) or lists of them, and
        gives a list with one tuple of features per picture; see mmpretrain.

    Raises:
        ConfigError: If the config is not for mmpretrain, has no backbone or no test
            pipeline, or the weights do not fit.

    Examples:
        >>> extract = feature_extractor(
        ...     'configs/cim/vit-b_8xb256-300e.py', 'epoch_300.pth')
        >>> feature_map = extract('picture.jpg')[0][-1]  # (768, 14, 14)
    """
    cfg = _read_config(config)
    scope = cfg.get('default_scope') or 'mmpretrain'
    if scope != 'mmpretrain':
        raise ConfigError(
            f'the config of a {cfg.model.type} has models of {scope}, but expected is a '
            "pre-training or classifier. load_backbone reads a segmentor's checkpoint."
        )
    network = MODELS.get(cfg.model.type)
    prefix = getattr(network, 'backbone_prefix', 'backbone.')
    backbone = None if prefix is None else find_backbone_config(cfg, prefix)
    if backbone is None or 'test_dataloader' not in cfg:
        lack = 'test_dataloader' if backbone else 'backbone to keep'
        raise ConfigError(f'the config of a {cfg.model.type} has no {lack}')
    pipeline = [
        # FeatureExtractor reads the pictures itself.
        step
        for step in cfg.test_dataloader.dataset.pipeline
        if step.type not in ('LoadImage', 'LoadImageFromFile')
    ]
    given = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    keys = ('mean', 'std', 'to_rgb')
    preprocessor = {key: given[key] for key in keys if key in given}
    built = Config(
        dict(
            model=dict(
                type='ImageClassifier',
                backbone=backbone,
                data_preprocessor=dict(type='ClsDataPreprocessor', **preprocessor),
            ),
            test_dataloader=dict(dataset=dict(type='CustomDataset', pipeline=pipeline)),
        )
    )
    # Another library may have made its own scope the default one.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        model = get_model(built, device=device)
        load_into(model.backbone, checkpoint)
        return FeatureExtractor(model)


def _read_config(config: str | Path | Config) -> Config:
    if isinstance(config, Config):
        return config
    if Path(config).suffix == '.py':
        return load_config(config)
    return ModelHub.get(str(config)).config

# Copyright (c) mmcim contributors. All rights reserved.
"""Networks from files."""

from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope
from mmpretrain import FeatureExtractor, get_model
from mmpretrain.apis import ModelHub
from mmpretrain.datasets import remove_transform
from mmpretrain.registry import MODELS
from torch import nn

from mmcim.checkpoints import BackboneFile, load_into
from mmcim.checkpoints.record import find_backbone_config
from mmcim.utils import load_config


def load_backbone(
    path: str | Path, device: str | torch.device = 'cpu', **overrides: Any
) -> nn.Module:
    """Rebuild a trained backbone.

    Args:
        path: A plain backbone (``epoch_300_backbone.safetensors``) or the
            training checkpoint that it stands beside (``epoch_300.pth``), of a
            pre-training, classifier or segmentor.
        device: Where it goes.
        **overrides: Arguments of the backbone in place of those that it was trained
            with, such as ``img_size`` (positions are resized), ``out_type`` or
            ``out_indices``.

    Returns:
        The network in evaluation mode, without what only its pre-training needs, such as
        masks, and with no parameter fixed by it. Its attribute ``normalization`` is the
        mean and the std of R, G and B of its images, on the scale 0..255, or None if the
        file does not record them.

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
    nor labels are needed. Images go through the config's test pipeline.

    Args:
        config: A pre-training or classifier, or a name in mmpretrain's ``ModelHub``.
        checkpoint: Its checkpoint, a plain backbone, or any other file that
            :func:`mmcim.checkpoints.load_into` reads.
        device: Where it goes.

    Returns:
        Takes paths, arrays (H, W, 3; BGR, uint8) or lists of them, and gives a list with
        one tuple of features per image; see mmpretrain.

    Raises:
        ValueError: If the config is not for mmpretrain, has no backbone or no test
            pipeline, or the weights do not fit.

    Examples:
        >>> extract = feature_extractor(
        ...     'configs/cim/vit-b_8xb256-300e.py', 'epoch_300.pth')
        >>> feature_map = extract('image.jpg')[0][-1]  # (768, 14, 14)
    """
    cfg = config
    if not isinstance(cfg, Config):
        is_file = Path(config).suffix == '.py'
        cfg = load_config(config) if is_file else ModelHub.get(str(config)).config
    prefix = getattr(MODELS.get(cfg.model.type), 'backbone_prefix', 'backbone.')
    backbone = None if prefix is None else find_backbone_config(cfg, prefix)
    scope = cfg.get('default_scope') or 'mmpretrain'
    if scope != 'mmpretrain' or backbone is None or 'test_dataloader' not in cfg:
        raise ValueError(
            'expected is the config of a pre-training or classifier of mmpretrain with '
            f'backbone and test_dataloader, not of a {cfg.model.type} of {scope}. '
            "load_backbone reads a segmentor's checkpoint"
        )
    given = cfg.model.get('data_preprocessor') or cfg.get('data_preprocessor') or {}
    preprocessor = {k: given[k] for k in ('mean', 'std', 'to_rgb') if k in given}
    preprocessor['type'] = 'ClsDataPreprocessor'
    model = dict(
        type='ImageClassifier', backbone=backbone, data_preprocessor=preprocessor
    )
    # FeatureExtractor reads the images itself; it knows mmpretrain's own loader alone.
    pipeline = remove_transform(cfg.test_dataloader.dataset.pipeline, 'LoadImage')
    data = dict(dataset=dict(type='CustomDataset', pipeline=pipeline))
    # Another library may have made its own scope the default one.
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        built = Config(dict(model=model, test_dataloader=data))
        network = get_model(built, device=device)
        load_into(network.backbone, checkpoint)
        return FeatureExtractor(network)

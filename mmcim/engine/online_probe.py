# Copyright (c) mmcim contributors. All rights reserved.
"""A logistic probe on the features of a backbone, while it is pre-trained."""

import os
from copy import copy
from typing import Any

import numpy as np
from mmpretrain.models.selfsup import BaseSelfSupervisor

from ..apis.features import extract_features, input_size
from ..checkpoints.layout import backbone_prefix, normalization
from ..datasets.image_files import fit_image, list_images
from ..datasets.image_folder import is_val
from ..evaluation.frozen_features import linear_probe
from ..utils.errors import ConfigError


class OnlineProbe:
    """Images of a labelled folder, which are read once, and a probe on their features.

    Args:
        model: A pre-training, not wrapped, that exports a backbone.
        folder: Of images in ``<class>/``. About a fifth of them is for validation, see
            :func:`mmcim.datasets.image_folder.is_val`.
        num: Images at most, spread over the classes; all of them stay in memory.
        img_size: Height and width of the images; None for the backbone's own.

    Raises:
        ConfigError: If there are fewer than two classes to train on or no image for
            validation, or if an image cannot be read.
    """

    def __init__(
        self, model: BaseSelfSupervisor, folder: str, num: int, img_size: Any
    ) -> None:
        files = list_images(folder, by_class=True).files
        files = files[:: -(-len(files) // num)]
        classes = [file.split(os.sep)[0] for file in files]
        self.labels = np.unique(classes, return_inverse=True)[1]
        self.is_val = np.array([is_val(file) for file in files])
        if len(set(self.labels[~self.is_val])) < 2 or not self.is_val.any():
            raise ConfigError(
                f'{folder}: a probe needs two classes to train on and an image for '
                f'validation; of {len(files)} images it has too few, so add some'
            )
        size = input_size(self._backbone(model), img_size)
        self.images = [fit_image(os.path.join(folder, file), size) for file in files]
        self.size = size

    def accuracy(self, model: BaseSelfSupervisor) -> dict[str, float]:
        """Fit logistic regression on the features of the backbone as it is exported.

        Args:
            model: In eval mode.

        Returns:
            ``top1`` and ``top5`` in percent; NaN if the features are not finite.
        """
        backbone = self._backbone(model)
        features = extract_features(backbone, self.images, img_size=self.size).numpy()
        if not np.isfinite(features).all():
            return dict(top1=np.nan, top5=np.nan)
        train, val = ((features[i], self.labels[i]) for i in (~self.is_val, self.is_val))
        return linear_probe(*train, *val)

    def _backbone(self, model: BaseSelfSupervisor) -> Any:
        """The backbone with the model's normalisation, which the model's own lacks."""
        backbone: Any = copy(model.get_submodule(str(backbone_prefix(model)).rstrip('.')))
        backbone.normalization = tuple(normalization(model).values())
        return backbone

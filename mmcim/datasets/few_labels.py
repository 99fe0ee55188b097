# Copyright (c) mmcim contributors. All rights reserved.
"""Training with a low-shot subset: few labelled images of every class."""

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module(name='FewLabels')
def few_labels(
    dataset: dict | BaseDataset,
    num_per_class: int | None = None,
    fraction: float = 1.0,
    seed: int = 0,
) -> BaseDataset:
    """Keep a number, or a fraction, of the images of every class of a labelled dataset.

    The choice depends on nothing but the dataset's order, the number and the seed. With
    the same seed the images for a smaller number are among those for a larger one.

    The published 1 % and 10 % of ImageNet (SimCLR's lists) are different images. To use
    those, give a list of ``<class>/<image> <label>`` lines as the ``ann_file``
    of the ``CustomDataset`` inside.

    Args:
        dataset: The dataset or its config.
        num_per_class: Images to keep of every class.
        fraction: Fraction to keep of every class, in (0, 1], rounded, at least one image.
        seed: Determines the choice.

    Returns:
        A dataset of the same type, in the same order.

    Raises:
        ValueError: If both ``num_per_class`` and ``fraction`` are given, or one out of
            its range; if a class has too few images; if the dataset has no labels.

    Example:
        In a config, to be set on the command line by
        ``--cfg-options train_dataloader.dataset.num_per_class=5``::

            dataset=dict(
                type='FewLabels',
                dataset=dict(type='CustomDataset', data_root='data/mine', ...))
    """
    if not 0 < fraction <= 1:
        raise ValueError(f'fraction={fraction} must be above 0 and at most 1')
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    if num_per_class is None and fraction == 1:
        return dataset
    if num_per_class is not None and (num_per_class < 1 or fraction < 1):
        raise ValueError(f'{num_per_class=}, {fraction=}: set one, the number at least 1')
    dataset.full_init()
    if 'gt_label' not in dataset.get_data_info(0):
        raise ValueError(f'The {type(dataset).__name__} has no labels to choose by')
    labels = dataset.get_gt_labels()
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(dataset.CLASSES or range(labels.max() + 1)):
        indices = rng.permutation(np.flatnonzero(labels == label))
        number = num_per_class or max(1, round(fraction * len(indices)))
        if len(indices) < number:
            raise ValueError(f'Class {name!r} has only {len(indices)} of {number} images')
        chosen.extend(indices[:number].tolist())
    return dataset.get_subset(sorted(chosen))

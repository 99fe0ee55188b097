# Copyright (c) mmcim contributors. All rights reserved.
"""Training with few labelled pictures of every class."""

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module(name='FewLabels')
def few_labels(dataset: dict | BaseDataset, num_per_class: int, seed: int = 0):
    """Keep the same number of pictures of every class of a labelled dataset.

    The choice depends on nothing but the dataset's order, the number and the seed.
    With the same seed the pictures for a smaller number are among those for a
    larger one.

    Args:
        dataset (dict | BaseDataset): The dataset or its config.
        num_per_class (int): Pictures to keep of every class.
        seed (int): Another seed gives another choice. Defaults to 0.

    Returns:
        BaseDataset: A dataset of the same type, in the same order.

    Raises:
        ValueError: If a class has fewer pictures than that, with its name; if the
            dataset has no labels.

    Example:
        In a config::

            dataset=dict(
                type='FewLabels', num_per_class=5, seed=0,
                dataset=dict(type='CustomDataset', data_root='data/mine', ...))
    """
    if num_per_class < 1:
        raise ValueError(f'num_per_class must be at least 1, not {num_per_class}')
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    dataset.full_init()
    if 'gt_label' not in dataset.get_data_info(0):
        raise ValueError(
            f'The {type(dataset).__name__} has no labels to choose by: build it with '
            'labels (CustomDataset: with_label=True).'
        )
    labels = dataset.get_gt_labels()
    names = dataset.CLASSES or range(labels.max() + 1)
    rng = np.random.default_rng(seed)
    chosen = []
    for label, name in enumerate(names):
        indices = rng.permutation(np.flatnonzero(labels == label))
        if len(indices) < num_per_class:
            raise ValueError(
                f'Class "{name}" has {len(indices)} pictures, num_per_class='
                f'{num_per_class} are wanted: lower num_per_class, or add pictures.'
            )
        chosen.extend(indices[:num_per_class].tolist())
    return dataset.get_subset(sorted(chosen))

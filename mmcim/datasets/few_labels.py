# Copyright (c) mmcim contributors. All rights reserved.
"""Training with few labelled pictures of every class."""

import numpy as np
from mmpretrain.datasets import BaseDataset
from mmpretrain.registry import DATASETS


@DATASETS.register_module(name='FewLabels')
def few_labels(
    dataset: dict | BaseDataset,
    num_per_class: int | None = None,
    share: float | None = None,
    seed: int = 0,
) -> BaseDataset:
    """Keep a number, or a share, of the pictures of every class of a labelled dataset.

    The choice depends on nothing but the dataset's order, the number and the seed.
    With the same seed the pictures for a smaller number are among those for a
    larger one. With neither a number nor a share all pictures are kept.

    The published 1 % and 10 % of ImageNet (SimCLR's lists) are other pictures. To take
    exactly those, name a list of ``<class>/<picture> <label>`` lines as the
    ``ann_file`` of the ``CustomDataset`` inside.

    Args:
        dataset (dict | BaseDataset): The dataset or its config.
        num_per_class (int, optional): Pictures to keep of every class.
            Defaults to None.
        share (float, optional): Share to keep of every class, in (0, 1], rounded, at
            least one picture. Defaults to None.
        seed (int): Another seed gives another choice. Defaults to 0.

    Returns:
        BaseDataset: A dataset of the same type, in the same order.

    Raises:
        ValueError: If both ``num_per_class`` and ``share`` are given, or one out of its
            range; if a class has fewer pictures than that, with its name; if the
            dataset has no labels.

    Example:
        In a config, where the command line then decides, by
        ``--cfg-options train_dataloader.dataset.num_per_class=5``::

            dataset=dict(
                type='FewLabels',
                dataset=dict(type='CustomDataset', data_root='data/mine', ...))
    """
    if num_per_class is not None and share is not None:
        raise ValueError(
            f'num_per_class={num_per_class} and share={share} are both given: set one'
        )
    if num_per_class is not None and num_per_class < 1:
        raise ValueError(f'num_per_class must be at least 1, not {num_per_class}')
    if share is not None and not 0 < share <= 1:
        raise ValueError(f'share must be above 0 and at most 1, not {share}')
    if isinstance(dataset, dict):
        dataset = DATASETS.build(dataset)
    if num_per_class is None and share is None:
        return dataset
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
        number = num_per_class or max(1, round(share * len(indices)))
        if len(indices) < number:
            raise ValueError(
                f'Class "{name}" has {len(indices)} pictures, {number} are wanted: '
                'lower num_per_class, or add pictures.'
            )
        chosen.extend(indices[:number].tolist())
    return dataset.get_subset(sorted(chosen))

# Copyright (c) mmcim contributors. All rights reserved.
"""A few functions for notebooks: trained networks, and what they have learned."""

from .features import extract_features, load_backbone  # noqa: I001
from .see import (
    attention_maps, images_per_code, load_tokenizer, nearest_neighbours, pca_colours,
    tsne,
)  # fmt: skip

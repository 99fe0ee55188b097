# Copyright (c) mmcim contributors. All rights reserved.
"""Golden numbers: results that a refactoring must reproduce.

- ``training_steps.json``: the losses of three steps and the first step's gradient norm of
  every parameter, for each method and encoder family at a reduced size.
- ``features.json``: features of backbones that were exported and loaded again.
- ``config_recipes.json``: the resolved recipe of every config.

``python -m tests.goldens.update`` regenerates all three files, or only those named as
arguments. Regenerate only in a commit whose purpose is to change the numbers: a corrected
formula, default or recipe, or a config, parameter or argument that is added, renamed or
removed. The diff then shows exactly what changed, and the commit message says why. In a
refactoring the stored numbers are right, and a difference is a bug.

The numbers do not depend on initial weights, kernels or the processor: weights are drawn
from seeds derived from parameter names, training steps run in float64, and all randomness
comes from PyTorch's uniform CPU generator, whose stream is the same everywhere.
"""

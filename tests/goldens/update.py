# Copyright (c) mmcim contributors. All rights reserved.
"""Regenerate the golden files: ``python -m tests.goldens.update [NAME.json ...]``."""

import sys

from . import features, recipes, steps, store


def main(names: list[str]) -> None:
    """Regenerate; the package docstring says when this is legitimate."""
    measures = {
        store.STEPS: steps.measure_all,
        store.FEATURES: features.measure_all,
        store.RECIPES: recipes.measure_all,
    }
    for path, measure in measures.items():
        if not names or path.name in names:
            store.write(path, measure())


if __name__ == '__main__':
    main(sys.argv[1:])

# Copyright (c) mmcim contributors. All rights reserved.
"""Checks of constructors' arguments."""


def check_fractions(**fractions: float) -> None:
    """Check that arguments are in [0, 1].

    Raises:
        ValueError: If one is not; the message names it.
    """
    for name, value in fractions.items():
        if not 0 <= value <= 1:
            raise ValueError(f'{name}={value} must be in [0, 1]')

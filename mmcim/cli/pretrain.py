# Copyright (c) mmcim contributors. All rights reserved.
"""Pre-train a backbone on your own images, with settings chosen for them.

Trains a tokenizer where the method needs one, and then the backbone. What was chosen, and
why, is printed and saved in a config that trains again by itself.
"""

import argparse

from ..apis.pretrain import pretrain


def run(args: argparse.Namespace) -> None:
    """Pre-train.

    Args:
        args: The command line.

    Raises:
        ConfigError: For everything that the user can fix.
    """
    options = vars(args)
    del options['command']
    pretrain(**options)

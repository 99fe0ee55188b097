# Copyright (c) mmcim contributors. All rights reserved.
"""What a user can fix: the tools print it without a traceback."""


class ConfigError(ValueError):
    """A config, path or checkpoint that cannot be used; the message says why."""

    exit_code = 2  # of a command

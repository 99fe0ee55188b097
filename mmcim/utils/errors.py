# Copyright (c) mmcim contributors. All rights reserved.
"""What a user can mend: the tools print it without a traceback."""


class ConfigError(ValueError):
    """A config, path or checkpoint that cannot be used; the message says why."""

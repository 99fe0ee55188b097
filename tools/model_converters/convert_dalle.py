#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""The same as ``mmcim convert-dalle``."""

from mmcim_cli import tool

if __name__ == '__main__':
    tool('convert-dalle')

#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""The same as ``mmcim train``."""

from mmcim_cli import tool

if __name__ == '__main__':
    tool('train')

# Copyright (c) mmcim contributors. All rights reserved.
"""A page about runs, made from what stands in their work directories."""

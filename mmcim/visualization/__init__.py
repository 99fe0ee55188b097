# Copyright (c) mmcim contributors. All rights reserved.
"""Images of what the models see and do."""

from .cim_panels import cim_panels
from .grid import save_grid
from .view_panels import view_panels

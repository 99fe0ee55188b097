# Copyright (c) mmcim contributors. All rights reserved.
"""Images of what the models see and do."""

from .grid import save_grid
from .panels import cim_panels, view_panels

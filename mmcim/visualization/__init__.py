# Copyright (c) mmcim contributors. All rights reserved.
"""Images of what the models see and do."""

from .figure import draw_panels, draw_points, rendered, save_image
from .mlflow import MLflowVisBackend
from .panels import grey_out, make_panels, overlay

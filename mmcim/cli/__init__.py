# Copyright (c) mmcim contributors. All rights reserved.
"""What the commands of ``mmcim`` do, one module each; ``mmcim_cli`` reads them."""

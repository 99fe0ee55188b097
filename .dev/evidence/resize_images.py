#!/usr/bin/env python
# Copyright (c) mmcim contributors. All rights reserved.
"""Copy a folder of images at another size.

    python .dev/evidence/resize_images.py FROM TO 64

The shorter side gets that many pixels, by Pillow's bicubic filter, as JPEG of quality 95.
"""

import sys
from pathlib import Path

from PIL import Image

if __name__ == '__main__':
    source, target, side = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    for path in sorted(source.rglob('*.[jJpP]*[gG]')):
        image = Image.open(path).convert('RGB')
        scale = side / min(image.size)
        size = [round(scale * length) for length in image.size]
        out = target / path.relative_to(source).with_suffix('.jpg')
        out.parent.mkdir(parents=True, exist_ok=True)
        image.resize(size, Image.Resampling.BICUBIC).save(out, quality=95)

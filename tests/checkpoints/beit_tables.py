# Copyright (c) mmcim contributors. All rights reserved.
"""How BEiT resizes relative position bias tables, stated independently."""

import numpy as np
import torch
from scipy.interpolate import RectBivariateSpline


def known_positions(side, new_side):
    """Where BEiT puts the offsets of ``side`` patches among those of ``new_side``.

    (BEiT itself stops looking for q at 1e-6.)
    """
    low, high = 1.01, 1.5
    while high - low > 1e-10:
        q = (low + high) / 2
        if sum(q**i for i in range(side - 1)) > new_side - 1:
            high = q
        else:
            low = q
    positive = [sum(q**i for i in range(1 + j)) for j in range(side - 1)]
    return np.array([-x for x in reversed(positive)] + [0] + positive)


def resized_table(table, grid, new_grid):
    """Fit FITPACK's tensor-product spline, as ``scipy.interpolate.interp2d`` did.

    It is cubic where an axis has four offsets or more. Outside the known positions it
    takes the value at the border.
    """
    known = [known_positions(a, b) for a, b in zip(grid, new_grid)]
    expected = [
        np.arange(1 - side, side).clip(at[0], at[-1]) for side, at in zip(new_grid, known)
    ]
    degrees = [min(3, len(at) - 1) for at in known]
    count = len(known[0]) * len(known[1])
    heads = []
    for values in table[:count].double().numpy().T:
        values = values.reshape(len(known[0]), len(known[1]))
        spline = RectBivariateSpline(*known, values, kx=degrees[0], ky=degrees[1], s=0)
        heads.append(spline(*expected).flatten())
    offsets = torch.tensor(np.stack(heads, axis=1)).to(table.dtype)
    return torch.cat((offsets, table[count:]))

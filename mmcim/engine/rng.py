# Copyright (c) mmcim contributors. All rights reserved.
"""The state of all random generators of a process, as plain values and tensors."""

import random

import numpy as np
import torch


def get_rng_state() -> dict:
    """Read the generators of python, numpy, torch and, if there is one, the GPU.

    Returns:
        dict: Tensors, numbers and tuples only, so that
        ``torch.load(weights_only=True)`` takes it.
    """
    name, keys, position, has_gauss, gauss = np.random.get_state()
    state = dict(
        python=random.getstate(),
        numpy=dict(
            name=name,
            keys=torch.from_numpy(keys.astype(np.int64)),
            position=int(position),
            has_gauss=int(has_gauss),
            gauss=float(gauss),
        ),
        torch=torch.get_rng_state(),
    )
    if torch.cuda.is_available():
        state['cuda'] = torch.cuda.get_rng_state()
    return state


def set_rng_state(state: dict) -> None:
    """Set the generators to what :func:`get_rng_state` has read.

    Args:
        state (dict): The state; its tensors may lie on any device. A GPU's part is left
            out where there is no GPU.
    """
    version, internal, gauss = state['python']
    random.setstate((version, tuple(internal), gauss))
    numpy = state['numpy']
    keys = numpy['keys'].cpu().numpy().astype(np.uint32)
    np.random.set_state(
        (numpy['name'], keys, numpy['position'], numpy['has_gauss'], numpy['gauss'])
    )
    torch.set_rng_state(state['torch'].cpu())
    if 'cuda' in state and torch.cuda.is_available():
        torch.cuda.set_rng_state(state['cuda'].cpu())

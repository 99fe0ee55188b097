# Copyright (c) mmcim contributors. All rights reserved.
"""Two gloo processes take the steps that one process takes with the whole batch."""

from functools import partial

from mmengine.optim import build_optim_wrapper
from mmengine.registry import DefaultScope

from .test_corrim import build, corrim, random_inputs
from .two_processes import assert_two_match_one

# Not Adam: it would amplify rounding in the gradients of key biases.
OPTIM = dict(
    type='AutoAmpOptimWrapper',
    precision='float32',
    constructor='NetworkwiseOptimWrapperConstructor',
    optimizer=dict(type='SGD', lr=0.05, momentum=0.9, weight_decay=0.05),
)
# Fixed exemplars.
CONFIG = corrim(data_preprocessor=dict(type='BaseDataPreprocessor'))


def steps(model, part, num=3):
    network = getattr(model, 'module', model)
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        optim = build_optim_wrapper(network, OPTIM)
    inputs = {k: v[part] for k, v in random_inputs(batch_size=4).items()}
    for step in range(num):
        model.train_step(dict(inputs=inputs), optim)
        network.momentum_encoder.update(network, step, num_steps=10)


def test_two_processes_match_one(tmp_path):
    start, end = assert_two_match_one(partial(build, CONFIG), steps, tmp_path)
    frozen = ('pos_embed', 'positions', 'projection.weight', 'projection.bias')
    for key, value in end.items():
        assert value.equal(start[key]) == key.endswith(frozen), key

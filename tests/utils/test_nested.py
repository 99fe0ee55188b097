# Copyright (c) mmcim contributors. All rights reserved.
from mmcim.utils.nested import walk


def test_containers_come_before_their_parts():
    node = dict(model=dict(depth=2, norms=['LN', dict(eps=1e-6)]), seed=None)
    assert list(walk(node)) == [
        ('', node),
        ('model', node['model']),
        ('model.depth', 2),
        ('model.norms', node['model']['norms']),
        ('model.norms.0', 'LN'),
        ('model.norms.1', dict(eps=1e-6)),
        ('model.norms.1.eps', 1e-6),
        ('seed', None),
    ]


def test_keys_begin_with_the_given_one():
    assert list(walk(({3: 'a'},), 'cfg'))[1:] == [('cfg.0', {3: 'a'}), ('cfg.0.3', 'a')]
    assert list(walk('value', 'cfg')) == [('cfg', 'value')]

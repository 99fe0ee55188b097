# Copyright (c) mmcim contributors. All rights reserved.
from functools import partial

import pytest
from mmpretrain.datasets import ImageNet
from mmpretrain.models import ResNet, VisionTransformer

from mmcim.utils.arguments import constructors, keyword_arguments, takes_any_keyword


class Base:
    def __init__(self, a, b=0):
        pass


class Forwards(Base):
    def __init__(self, c, *args, b=1, **kwargs):
        super().__init__(*args, b=b, **kwargs)


class Closes(Base):
    def __init__(self, c):
        super().__init__(a=1)


class OfMixin(Forwards):
    pass


class Open:
    def __init__(self, d, **kwargs):
        pass


class Empty:
    pass


def function(x, y=1, **rest):
    return x, y, rest


@pytest.mark.parametrize(
    ('builder', 'names', 'last_is_open'),
    [
        (Base, {'a', 'b'}, False),
        (Forwards, {'a', 'b', 'c'}, False),
        (OfMixin, {'a', 'b', 'c'}, False),
        (Closes, {'c'}, False),
        (Open, {'d'}, True),
        (function, {'x', 'y'}, True),
        (partial(function, 1), {'y'}, True),
    ],
)
def test_keyword_arguments_of_builders(builder, names, last_is_open):
    found = keyword_arguments(builder).keys() - {'self', 'args', 'kwargs', 'rest'}
    assert found == names
    assert takes_any_keyword(constructors(builder)[-1]) is last_is_open


def test_class_without_constructor():
    assert keyword_arguments(Empty) == {}
    assert not takes_any_keyword(Empty)


def test_derived_class_parameters_take_precedence():
    assert keyword_arguments(Base)['b'].default == 0
    assert keyword_arguments(Forwards)['b'].default == 1


def test_arguments_of_real_classes():
    assert {'arch', 'drop_rate', 'init_cfg'} <= keyword_arguments(
        VisionTransformer
    ).keys()
    assert {'depth', 'norm_cfg'} <= keyword_arguments(ResNet).keys()
    assert {'split', 'extensions', 'indices'} <= keyword_arguments(ImageNet).keys()

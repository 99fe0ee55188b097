# Copyright (c) mmcim contributors. All rights reserved.
"""``--cfg-options`` as the tools read them."""

import argparse

import pytest
from mmengine.config import DictAction

from mmcim.utils import ConfigOptions


def read(*texts, action=ConfigOptions):
    parser = argparse.ArgumentParser()
    parser.add_argument('--cfg-options', nargs='+', action=action)
    return vars(parser.parse_args(['--cfg-options', *texts]))['cfg_options']


@pytest.mark.parametrize(
    ('text', 'value'),
    [
        ('/x/my pics', '/x/my pics'),
        ('/x/my pics (old)/a [b] = c', '/x/my pics (old)/a [b] = c'),
        ("/x/John's pics", "/x/John's pics"),
        ("'/x/my, pics'", '/x/my, pics'),
        ('"/x/John\'s, pics"', "/x/John's, pics"),
        ('my pics, 2', ['my pics', 2]),
        ("['a, b', c d]", ['a, b', 'c d']),
        ('[ 1, (2.5, a b), [] ]', [1, (2.5, 'a b'), []]),
        ("'[1, 2]'", [1, 2]),
    ],
)
def test_spaces_and_quoted_commas_are_kept(text, value):
    assert read(f'key={text}') == {'key': value}


@pytest.mark.parametrize(
    'text',
    [
        *('1', '1e-3', 'true', 'False', 'None', 'none', 'a', '', '1,2', 'a,', '[]', '()'),
        *('[1]', '(1,)', '[1,2]', '(1,a)', '[(1,2),[a,b],c]', '[[[1]]]', "'a'", '"1"'),
        *("['a','b']", "'a','b'", 'a=b', '/x/(a)/b', 'Pad_(1)'),
    ],
)
def test_all_else_is_as_in_mmengine(text):
    expected = read(f'key={text}', action=DictAction)
    assert read(f'key={text}') == expected
    assert type(read(f'key={text}')['key']) is type(expected['key'])


def test_several_options_and_the_same_one_twice():
    assert read('a.b=1', 'c=x y') == {'a.b': 1, 'c': 'x y'}
    assert read('a=1', '--cfg-options', 'a=2', 'b=3') == {'a': 2, 'b': 3}


@pytest.mark.parametrize(
    ('texts', 'message'),
    [
        (['data_root=/x/my', 'pics'], "'pics' is no KEY=VALUE"),
        (['=1'], "'=1' is no KEY=VALUE"),
        (['betas=[0.9,0.95'], 'betas: brackets or quotes do not match'),
        (["a='b, c"], 'a: brackets or quotes do not match'),
    ],
)
def test_what_cannot_be_read(capsys, texts, message):
    with pytest.raises(SystemExit) as error:
        read(*texts)
    assert error.value.code == 2
    assert message in capsys.readouterr().err

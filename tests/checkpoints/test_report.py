# Copyright (c) mmcim contributors. All rights reserved.
import pytest

from mmcim.checkpoints import LoadReport
from mmcim.checkpoints.report import enumerate_names, group


@pytest.mark.parametrize(
    ('names', 'text'),
    [
        ([], ''),
        (['cls_token'], 'cls_token'),
        (['layers.0.ln1.bias', 'layers.1.ln1.bias', 'ln1.bias'],
         'layers.0-1.ln1.bias, ln1.bias'),
        (['a.3.w', 'a.0.w', 'a.2.w', 'a.12.w', 'a.13.w'], 'a.0,2-3,12-13.w'),
        # The first number alone is that of a layer.
        (['a.0.b.1.w', 'a.1.b.1.w', 'a.0.b.2.w'], 'a.0-1.b.1.w, a.0.b.2.w'),
        (['a.0', 'ln1.w', 'ln2.w'], 'a.0, ln1.w, ln2.w'),
    ],
)  # fmt: skip
def test_enumerate_names(names, text):
    assert enumerate_names(names) == text


def test_group_joins_names_with_same_text():
    names = {'a.0.w': 'missing', 'b': 'of shape (2,)', 'a.1.w': 'missing'}
    assert group(names) == 'a.0-1.w missing; b of shape (2,)'


def test_shortest_report():
    report = LoadReport('x.pth', '', total=2)
    assert str(report) == (
        'Backbone weights: 2 of 2 tensors matched from x.pth, prefix none; unused: none.'
    )


def test_full_report():
    report = LoadReport(
        'x.pth',
        'backbone.',
        total=2,
        resized={'layers.0.t': (52, 212), 'layers.1.t': (52, 212)},
        new=['ln2.weight'],
        missing=['head.w'],
        unused=['mask_token', 'decoder.*', 'proj.*'],
    )
    assert str(report) == (
        'Backbone weights: 2 of 2 tensors matched from x.pth, prefix backbone.; resized: '
        'layers.0-1.t 52 -> 212; new in this network: ln2.weight; missing: head.w; '
        'unused: mask_token, decoder.*, proj.*.'
    )

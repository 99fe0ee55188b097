# Copyright (c) mmcim contributors. All rights reserved.
"""What is on the page, read by an HTML parser as a browser would."""

import html
import re

import lxml.html
import pytest

from mmcim.reports.page import _shorten, render_page
from mmcim.reports.runs import RunHistory

from .written_runs import start

EVIL = '</script><script>alert(1)</script><img src=x onerror=alert(2)>&"\''


def parse(*runs):
    return lxml.html.fromstring(render_page(runs))


def table(page, caption):
    """Title of each row -> texts of its cells."""
    (found,) = page.xpath(f'//table[caption[text()={caption!r}]]')
    rows = [[cell.text_content().strip() for cell in row] for row in found.iter('tr')]
    return {row[0]: row[1:] for row in rows}


@pytest.fixture(scope='module')
def page():
    """The page of two runs, of which the second has only begun."""
    first = RunHistory(
        'first',
        settings={'lr': 0.1, 'seed': 0, 'hook': None},
        versions={'torch': '2.14.1'},
        scalars={
            'loss': {50: 2.0, 100: 1.0},
            'lr': {50: 0.1},
            'memory': {100: 4096.0},
            'probe/top1': {50: 40.0, 100: 39.0},
            'held_out/loss_pix': {50: 0.5, 100: 0.75},
        },
        evaluations={'probe/top1', 'held_out/loss_pix'},
        results={'linear/top1 (metrics.json)': 87.3},
        events=[
            start(),
            dict(event='warning', message='one code'),
            dict(event='probe', metrics={'probe/top1': 39.123456}, iter=100),
            dict(event='later', facts=dict(a=[1, 2]), iter=100),
            start(event='end'),
        ],
    )
    return parse(first, RunHistory('second', settings={'lr': 0.2, 'seed': 0}))


def test_summary(page):
    assert table(page, 'Summary') == {
        '': ['first', 'second'],
        'status': ['finished', 'no end recorded, last entry unknown'],
        'iterations': ['100', '–'],
        'loss': ['1', '–'],
        'memory, MiB': ['4096', '–'],
        'last held_out/loss_pix': ['0.75', '–'],
        'best probe/top1': ['40 at 50', '–'],
    }


def test_settings_and_their_differences(page):
    assert table(page, 'Settings that differ') == {
        '': ['first', 'second'],
        'lr': ['0.1', '0.2'],
    }
    settings = table(page, 'All settings')
    assert settings['seed'] == ['0', '0'] and settings['hook'] == ['–', '–']
    assert table(page, 'Versions')['torch'] == ['2.14.1', '–']
    assert table(page, 'Results of tests')['linear/top1 (metrics.json)'] == ['87.3', '–']


def test_one_run_differs_from_none():
    page = parse(RunHistory('a', settings={'lr': 1}))
    assert not page.xpath('//*[@id="differences"]')
    assert table(page, 'All settings')['lr'] == ['1']


def test_run_without_settings_differs_in_none():
    runs = [
        RunHistory(name, settings={'lr': 1, 'seed': i}) for i, name in enumerate('ab')
    ]
    page = parse(RunHistory('crashed'), *runs, RunHistory('older'))
    cells = ['–', '0', '1', '–']
    assert table(page, 'Settings that differ').pop('seed') == cells
    assert 'lr' not in table(page, 'Settings that differ')
    assert page.xpath('//h1')[0].text == '4 runs'


def test_plots_are_in_sections(page):
    sections = {}
    for heading in page.xpath('//section[@id="curves"]//h3'):
        names = heading.getnext().xpath('.//h4')
        sections[heading.text] = [name.text for name in names]
    assert sections == {
        'Training': ['loss'],
        'Evaluation': ['held_out/loss_pix', 'probe/top1'],
        'Optimisation': ['lr'],
        'Speed and memory': ['memory'],
    }


def test_events(page):
    rows = page.xpath('//table[caption[text()="Events of first"]]/tbody/tr')
    texts = [[' '.join(cell.text_content().split()) for cell in row] for row in rows]
    assert texts == [
        ['2026-11-26 13:00:00', '0', 'start', ''],
        ['', '–', 'warning', 'one code'],
        ['', '100', 'probe', 'probe/top1 39.123'],
        ['', '100', 'later', 'facts: a [1, 2]'],
        ['2026-11-26 13:00:00', '0', 'end', ''],
    ]
    assert [row.get('class') for row in rows] == [None, 'alarm', None, None, None]


def test_of_frequent_events_the_first_and_the_last_are_listed():
    events = [dict(event='checkpoint', iter=i) for i in range(300)]
    events[100:100] = [dict(event='warning')] * 10
    found = [(e['event'], e.get('iter'), count) for e, count in _shorten(events)]
    warnings = [('warning', None, 0)] * 10
    assert found == [('checkpoint', 0, 0), *warnings, ('checkpoint', 299, 298)]


def test_run_without_anything():
    page = parse(RunHistory('empty'))
    text = page.text_content()
    assert 'No numbers have been logged yet' in text
    assert 'None were recorded' in text and 'No settings were recorded' in text


def test_everything_is_escaped(tmp_path):
    run = RunHistory(
        EVIL,
        settings={f'key{EVIL}': f'value{EVIL}'},
        versions={EVIL: EVIL},
        scalars={EVIL: {1: 1.0}},
        evaluations={EVIL},
        images={EVIL: {1: tmp_path / 'missing.png'}},
        events=[dict(event=EVIL, message=EVIL, time=EVIL, iter=EVIL)],
        results={EVIL: 1.0},
    )
    text = render_page([run, RunHistory('b')])
    assert '<script>alert' not in text and '<img src=x' not in text
    page = lxml.html.fromstring(text)
    assert len(page.xpath('//script')) == len(parse(RunHistory('a')).xpath('//script'))
    assert not page.xpath('//img')
    assert page.xpath('//h1')[0].text == f'{EVIL}, b'
    assert table(page, 'All settings')[f'key{EVIL}'] == [f'value{EVIL}', '–']
    label = html.escape(EVIL, quote=False).replace("'", '&#x27;').replace('"', '\\\\"')
    assert f'"label":{{"type":"value","value":"{label}"}}' in text


def test_page_loads_nothing(page):
    addresses = page.xpath('//@src | //@href | //@action | //@data | //@poster')
    assert all(a.startswith(('#', 'data:')) for a in addresses)
    assert not page.xpath('//iframe | //object | //embed | //link[@rel!="icon"]')
    styles = ''.join(page.xpath('//style/text()'))
    assert not re.search(r'url\(|@import', styles)

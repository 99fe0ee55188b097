# Copyright (c) mmcim contributors. All rights reserved.
"""The page of ``mmcim report`` in Chromium, from disk and without a network."""

import shutil
from pathlib import Path

import pytest

import mmcim_cli
from mmcim.cli import report

from ..reports.written_runs import (
    photo,
    start,
    trained,
    write_image,
    write_lines,
    write_scalars,
)

pytestmark = pytest.mark.slow
EVIL = '<script>alert(1)'
# The plot of a scalar, and the part of the page that shows it.
PLOT = """name => {
  const div = [...document.querySelectorAll('.plot')].find(
    e => e.querySelector('h4').textContent == name).querySelector('[data-root-id]')
  return Bokeh.documents[0].get_model_by_id(div.dataset.rootId)
}"""
VALUES = f"""name => ({PLOT})(name).renderers.map(
  r => [r.glyph.y.field, r.name, r.visible, [...r.data_source.data[r.glyph.y.field]]])"""


@pytest.fixture(scope='module')
def browser():
    sync_api = pytest.importorskip(
        'playwright.sync_api', reason="needs Playwright: pip install -e '.[browser]'"
    )
    path = shutil.which('chromium') or shutil.which('google-chrome')
    if not path:
        pytest.skip('needs Chromium: apt install chromium')
    with sync_api.sync_playwright() as playwright:
        arguments = ['--no-sandbox']
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope='module')
def file(tmp_path_factory) -> Path:
    """The page of two runs, one of which has a name to be escaped."""
    folder = tmp_path_factory.mktemp('runs')
    for name in ('a', EVIL):
        iterations = range(10, 1000, 10)
        lines = [line | dict(loss=i % 2) for i, line in enumerate(trained(*iterations))]
        write_scalars(folder / name, *lines, {'probe/top1': 40.0, 'step': 500})
        settings = {f'key_{i}': [name, EVIL] * 9 for i in range(9)}
        write_lines(folder / name / 'events.jsonl', start(settings=settings))
        for step in (100, 200, 300):
            write_image(folder / name, f'panels_{step}', photo(step))
    report.run(mmcim_cli.parse(['report', str(folder), '--out', str(folder / 'r.html')]))
    return folder / 'r.html'


@pytest.fixture(params=[(1400, 'light'), (380, 'dark')], ids=['wide', 'narrow'])
def page(browser, file, request):
    """The page in a window; what it complains about or asks for fails the test."""
    width, scheme = request.param
    context = browser.new_context(
        viewport=dict(width=width, height=900), color_scheme=scheme, offline=True
    )
    page, complaints = context.new_page(), []
    page.on('pageerror', lambda error: complaints.append(str(error)))
    page.on('dialog', lambda dialog: complaints.append(dialog.message))
    page.on('request', lambda request: complaints.append(request.url))
    page.on('console', lambda line: complaints.append(f'{line.type}: {line.text}'))
    page.goto(file.as_uri())
    page.wait_for_function('() => window.Bokeh?.documents[0]?.is_idle')
    yield page
    context.close()
    log = ('log:', 'info:', 'data:', file.as_uri())
    assert [text for text in complaints if not text.startswith(log)] == []


def test_page_renders_and_fits_the_window(page):
    assert page.locator('h1').text_content() == f'{EVIL}, a'
    plots = page.locator('.plot')
    assert [name.text_content() for name in plots.locator('h4').all()] == [
        'loss', 'probe/top1', 'lr', 'data_time', 'time',
    ]  # fmt: skip
    width = page.viewport_size['width']
    assert page.evaluate('document.documentElement.scrollWidth') == width
    boxes = [plot.bounding_box() for plot in plots.all()]
    assert all(box['height'] > 250 and box['width'] > 300 for box in boxes)
    shared = 'x' if width < 800 else 'y'
    assert boxes[3][shared] == boxes[4][shared]
    # Something is drawn, not only room for it.
    canvas = page.locator('.plot canvas').first
    assert len(canvas.evaluate('c => c.toDataURL()')) > 3000


def test_slider_smooths_all_plots(page):
    raw = [i % 2 for i in range(99)]
    assert [values for *_, values in page.evaluate(VALUES, 'loss')] == [raw] * 4
    page.locator('.smoothing [role=slider]').focus()
    for _ in range(25):  # steps of 0.02
        page.keyboard.press('ArrowRight')
    page.wait_for_function(f"() => ({VALUES})('loss')[1][3][1] == 0.5")
    expected = [0.0]
    for value in raw[1:]:
        expected.append(0.5 * expected[-1] + 0.5 * value)
    for field, *_, values in page.evaluate(VALUES, 'loss'):
        wanted = expected if field == 'smooth' else raw
        assert values == pytest.approx(wanted, abs=1e-6)


def test_legend_hides_a_run_in_all_plots(page):
    for visible in (False, True):
        page.locator('.plot').first.get_by_text(EVIL).click()
        for plot in ('loss', 'probe/top1', 'time'):
            for _, name, shown, _ in page.evaluate(VALUES, plot):
                assert shown == (visible or name == 'a')


def test_gallery_shows_the_last_step_first_and_moves(page):
    gallery = page.locator('figure').first
    shown = gallery.locator('img:visible')
    assert shown.count() == 1 and gallery.get_by_text('Iteration 300').is_visible()
    last = shown.get_attribute('src')
    assert shown.evaluate('i => i.naturalWidth') > 300
    gallery.locator('input').focus()
    page.keyboard.press('ArrowLeft')
    assert shown.count() == 1 and shown.get_attribute('src') != last
    assert gallery.get_by_text('Iteration 200').is_visible()
    # The gallery beside it has a slider of its own.
    assert page.locator('figure').nth(1).get_by_text('Iteration 300').is_visible()


def test_hover_tells_run_iteration_and_value(page):
    plot = page.locator('.plot').nth(2)  # lr: both runs have the same
    plot.scroll_into_view_if_needed()
    box = plot.bounding_box()
    page.mouse.move(box['x'] + box['width'] / 2, box['y'] + 100)
    tips = page.locator('.bk-Tooltip')
    tips.get_by_text('0.001').first.wait_for()
    assert tips.get_by_text('iteration').first.is_visible()
    assert tips.get_by_text(EVIL).first.is_visible()

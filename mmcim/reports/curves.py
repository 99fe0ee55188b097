# Copyright (c) mmcim contributors. All rights reserved.
"""Curves: a plot per scalar with all runs in it, and one slider that smooths them."""

from collections.abc import Sequence
from typing import Any

import bokeh.models as bk
import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from bokeh.resources import Resources

from .runs import Points, RunHistory

_POINTS = 40_000  # on a page
_DASHES = ('solid', 'dashed', 'dotted', 'dotdash')  # for one ten of runs after another
# An exponential moving average; after a gap it begins again.
_SMOOTH = """for (const {data, change} of sources) {
  let m = NaN
  data.smooth = Array.from(data.value, v => m = isNaN(m) ? v : v + cb_obj.value * (m - v))
  change.emit()
}"""
# What a legend hides in one plot, in all others. Called for the last line of a run: a
# legend toggles them one after the other.
_HIDE = """for (const plot of cb_obj.document.roots())
  for (const line of plot.renderers ?? [])
    if (line.name == cb_obj.name) line.visible = cb_obj.visible"""
# A page decides on the background. With a tool for dragging, a finger on a plot would not
# scroll the page.
_LOOK = dict(
    frame_height=210, sizing_mode='stretch_width', x_axis_label='iteration',
    tools='box_zoom,reset,save', active_drag=None,
    background_fill_color=None, border_fill_color=None, outline_line_color=None,
)  # fmt: skip
_LEGEND = dict(
    click_policy='hide', orientation='horizontal', border_line_color=None,
    background_fill_color=None, spacing=8, location='top_left',
)  # fmt: skip
_TOOLTIPS = [('', '$name'), ('iteration', '@iteration'), ('value', '@value{%.5g}')]


def draw_curves(runs: Sequence[RunHistory]) -> dict[str, Any]:
    """Draw all scalars of runs.

    Args:
        runs: In the order of their colours.

    Returns:
        HTML: ``scripts``, what of Bokeh is needed and what draws into ``slider`` and into
        ``plots``, a dict by the name of the scalar. And ``most``, the number of points
        above which curves show means.
    """
    most = _POINTS // max(40, *(len(run.scalars) * len(runs) for run in runs))
    columns = 2 if max(len(run.name) for run in runs) <= 18 else 1  # on a phone
    hide, sources, models = bk.CustomJS(code=_HIDE), [], {}
    for name in sorted({name for run in runs for name in run.scalars}):
        plot, items = figure(**_LOOK), []
        plot.toolbar.logo, plot.axis.axis_label_text_font_style = None, 'normal'
        for index, run in enumerate(runs):
            if points := run.scalars.get(name):
                source = bk.ColumnDataSource(_columns(points, most))
                lines = _draw_line(plot, source, run.name, index)
                lines[-1].js_on_change('visible', hide)
                items.append(bk.LegendItem(label={'value': run.name}, renderers=lines))
                sources.append(source)
        plot.add_layout(bk.Legend(items=items, ncols=columns, **_LEGEND), 'below')
        models[name] = plot
    slider = bk.Slider(start=0, end=0.98, step=0.02, value=0, title='Smoothing')
    slider.sizing_mode, slider.bar_color = 'stretch_width', '#0a5fb4'
    slider.js_on_change('value', bk.CustomJS(args={'sources': sources}, code=_SMOOTH))
    document = Document()
    with document.models.freeze():  # else each root looks through all others
        for model in (slider, *models.values()):
            document.add_root(model)
    script, plots = components({'': slider, **models})
    library = Resources('inline', components=['bokeh', 'bokeh-widgets']).render_js()
    return dict(scripts=(library, script), slider=plots.pop(''), plots=plots, most=most)


def _draw_line(plot: figure, source: bk.ColumnDataSource, name: str, index: int) -> list:
    """Draw what was logged, pale, and what the slider makes of it, which comes last."""
    style = dict(source=source, color=Category10_10[index % 10], name=name)
    dash = _DASHES[index // 10 % len(_DASHES)]
    lines = [plot.line('iteration', 'value', alpha=0.25, line_dash=dash, **style)]
    if len(source.data['value']) <= 30:  # a line of one point would not be seen
        lines.append(plot.scatter('iteration', 'smooth', size=5, **style))
    lines.append(
        plot.line('iteration', 'smooth', line_width=1.8, line_dash=dash, **style)
    )
    hover = bk.HoverTool(renderers=lines[-1:], tooltips=_TOOLTIPS, mode='vline')
    hover.formatters, hover.visible = {'@value': 'printf'}, False  # not in the toolbar
    hover.attachment = ('above', 'below', 'left', 'right')[index % 4]  # beside each other
    plot.add_tools(hover)
    return lines


def _columns(points: Points, longest: int) -> dict[str, np.ndarray]:
    """Arrays of a curve; of a long one means of neighbouring points."""
    table = np.array(sorted(points.items()), dtype=float)
    table[~np.isfinite(table)] = np.nan  # a gap
    begins = np.arange(0, len(table), -(-len(table) // longest))
    counts = np.diff([*begins, len(table)])
    iteration, value = np.add.reduceat(table, begins).T / counts
    value = value.astype(np.float32)
    return dict(iteration=iteration.astype(np.int32), value=value, smooth=value)

# Copyright (c) mmcim contributors. All rights reserved.
"""Curves: a plot per scalar with all runs in it, and one slider that smooths them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    GlyphRenderer,
    HoverTool,
    Legend,
    LegendItem,
    Slider,
)
from bokeh.palettes import Category10_10
from bokeh.plotting import figure
from bokeh.resources import Resources

from .runs import Points, RunHistory

_POINTS = 40_000  # on a page
_DASHES = ('solid', 'dashed', 'dotted', 'dotdash')  # for one ten of runs after another
# An exponential moving average; after a gap it begins again.
_SMOOTH = """
for (const {data, change} of sources) {
  let mean = NaN
  data.smooth = Array.from(data.value, (value) =>
    mean = isNaN(mean) ? value : cb_obj.value * mean + (1 - cb_obj.value) * value)
  change.emit()
}"""

# What a legend hides in one plot, in all others.
_HIDE = """
for (const {renderers} of cb_obj.document.roots())
  for (const other of renderers ?? [])
    if (other.name == cb_obj.name) other.visible = cb_obj.visible"""


class Curves(NamedTuple):
    """Parts of a page.

    Attributes:
        library: Script elements with what of Bokeh is needed.
        script: Script element that draws into the following.
        slider: Element of the slider.
        plots: Name of each scalar -> element of its plot.
        longest: Number of points above which a curve shows means.
    """

    library: str
    script: str
    slider: str
    plots: dict[str, str]
    longest: int


def draw_curves(runs: Sequence[RunHistory]) -> Curves:
    """Draw all scalars of runs.

    Args:
        runs: In the order of their colours.
    """
    names = sorted({name for run in runs for name in run.scalars})
    count = sum(len(run.scalars) for run in runs)
    longest = max(50, min(1000, _POINTS // max(1, count)))
    hide, sources, models = CustomJS(code=_HIDE), [], {}
    for name in names:
        plot, items = _empty_plot(), []
        for index, run in enumerate(runs):
            if points := run.scalars.get(name):
                source = ColumnDataSource(_columns(points, longest))
                renderers = _draw_line(plot, source, run.name, index)
                renderers[-1].js_on_change('visible', hide)
                items.append(LegendItem(label=dict(value=run.name), renderers=renderers))
                sources.append(source)
        _add_legend(plot, items)
        models[name] = plot
    slider = Slider(start=0, end=0.98, step=0.02, value=0, title='Smoothing')
    slider.sizing_mode = 'stretch_width'
    slider.js_on_change('value', CustomJS(args=dict(sources=sources), code=_SMOOTH))
    models[''] = slider
    document = Document()
    with document.models.freeze():  # else each root looks through all others
        for model in models.values():
            document.add_root(model)
    script, divs = components(models)
    parts = ['bokeh', 'bokeh-widgets']
    library = Resources(mode='inline', minified=True, components=parts).render_js()
    return Curves(library, script, divs.pop(''), divs, longest)


def _empty_plot() -> figure:
    # A page decides on its background. With a tool for dragging, a finger on a plot
    # would not scroll the page.
    plot = figure(
        height=300,
        sizing_mode='stretch_width',
        tools='box_zoom,reset,save',
        active_drag=None,
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        x_axis_label='iteration',
    )
    plot.toolbar.logo = None
    plot.axis.axis_label_text_font_style = 'normal'
    plot.grid.grid_line_alpha = 0.6
    return plot


def _draw_line(
    plot: figure, source: ColumnDataSource, name: str, index: int
) -> list[GlyphRenderer]:
    """Draw what was logged, pale, and what the slider makes of it, which comes last."""
    style = dict(source=source, color=Category10_10[index % 10], name=name)
    dash = _DASHES[index // 10 % len(_DASHES)]
    renderers = [plot.line('iteration', 'value', alpha=0.25, line_dash=dash, **style)]
    if len(source.data['value']) <= 30:  # a line of one point would not be seen
        renderers.append(plot.scatter('iteration', 'smooth', size=5, **style))
    line = plot.line('iteration', 'smooth', line_width=1.8, line_dash=dash, **style)
    hover = HoverTool(
        renderers=[line],
        tooltips=[('', '$name'), ('iteration', '@iteration'), ('value', '@value{%.5g}')],
        formatters={'@value': 'printf'},
        mode='vline',
        visible=False,  # in the toolbar
    )
    plot.add_tools(hover)
    return [*renderers, line]


def _add_legend(plot: figure, items: list[LegendItem]) -> None:
    short = max(len(item.label.value) for item in items) <= 18
    legend = Legend(items=items, click_policy='hide', ncols=2 if short else 1)
    legend.update(border_line_color=None, background_fill_color=None, spacing=0)
    plot.add_layout(legend, 'below')


def _columns(points: Points[float], longest: int) -> dict[str, np.ndarray]:
    """Arrays of a curve; of a long one means of neighbouring points."""
    table = np.array(sorted(points.items()))
    table[~np.isfinite(table)] = np.nan  # a gap
    begins = np.arange(0, len(table), -(-len(table) // longest))
    counts = np.diff([*begins, len(table)])
    iteration, value = np.add.reduceat(table, begins).T / counts
    value = value.astype(np.float32)
    return dict(iteration=iteration.astype(np.int32), value=value, smooth=value)

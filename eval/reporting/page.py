"""The report as one HTML file that needs nothing else: no network, no script."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from eval.reporting.content import Content
from eval.reporting.plots import Plot
from eval.reporting.tables import Cell, Sheet, sheets

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 66rem; margin: 2rem auto; padding: 0 1rem; color: #1b1b1b; }
table { border-collapse: collapse; margin: .5rem 0; font-variant-numeric: tabular-nums; }
p.caption { color: #555; margin: .4rem 0 1rem; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #ddd; text-align: left; vertical-align: top; }
td.figure, th.figure { text-align: right; white-space: nowrap; }
td.words { min-width: 8rem; }
td:first-child { min-width: 11rem; }
figure { margin: 1rem 0; }
figure svg { max-width: 100%; height: auto; }
figcaption, dt { color: #555; }
dd { margin: 0 0 .4rem 0; overflow-wrap: anywhere; font-family: ui-monospace, monospace; font-size: 13px; }
.wide { overflow-x: auto; }
"""


def page(content: Content, plots: Sequence[Plot]) -> str:
    """The whole file."""
    parts = [f"<h1>{escape(content.title)}</h1>"]
    for heading, sheet in sheets(content):
        parts += [f"<h2>{escape(heading)}</h2>", _table(sheet)]
        if heading == "Cost":
            parts += [_figure(plot) for plot in plots]
    parts.append("<h2>How the figures came about</h2>")
    for system in content.systems:
        rows = "".join(
            f"<dt>{escape(key)}</dt><dd>{escape(value)}</dd>" for key, value in content.provenance(system).items()
        )
        parts.append(f"<h3>{escape(system.name)}</h3><dl>{rows}</dl>")
    if content.notes:
        parts.append("<h2>Notes</h2><ul>" + "".join(f"<li>{escape(note)}</li>" for note in content.notes) + "</ul>")
    body = "\n".join(parts)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n{body}\n</body>\n</html>\n"
    )


def _table(sheet: Sheet) -> str:
    heads = "".join(
        f'<th scope="col" class="{_kind(sheet, place)}">{escape(head)}</th>' for place, head in enumerate(sheet.heads)
    )
    rows = "".join(
        f"<tr>{''.join(_cell(cell, _kind(sheet, place)) for place, cell in enumerate(row))}</tr>\n"
        for row in sheet.rows
    )
    return (
        f'<div class="wide"><table><thead><tr>{heads}</tr></thead>\n<tbody>{rows}</tbody></table></div>\n'
        f'<p class="caption">{escape(sheet.caption)}</p>'
    )


def _cell(cell: Cell, kind: str) -> str:
    text = escape(cell.text)
    raised = f"<sup>{escape(cell.raised)}</sup>" if cell.raised else ""
    return f'<td class="{kind}">{f"<strong>{text}</strong>" if cell.strong else text}{raised}</td>'


def _kind(sheet: Sheet, place: int) -> str:
    return "words" if place in sheet.words else "figure"


def _figure(plot: Plot) -> str:
    drawn = plot.svg.replace("<svg ", f'<svg role="img" aria-label="{escape(plot.says)}" ', 1)
    return f'<figure><div class="wide">{drawn}</div><figcaption>{escape(plot.says)}</figcaption></figure>'

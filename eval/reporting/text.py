"""The report in Markdown, and its table of quality in LaTeX."""

from __future__ import annotations

import re
from collections.abc import Sequence

from eval.reporting.content import Content
from eval.reporting.plots import Plot
from eval.reporting.tables import Cell, Sheet, quality, sheets


def markdown(content: Content, plots: Sequence[Plot]) -> str:
    """The whole report; plots are the SVG files beside it."""
    parts = [f"# {_md(content.title)}"]
    for heading, sheet in sheets(content):
        parts += [f"## {heading}", _md_table(sheet), sheet.caption]
        if heading == "Cost":
            parts += [f"![{_md(plot.says)}]({plot.name}.svg)" for plot in plots]
    parts.append("## How the figures came about")
    for system in content.systems:
        rows = [f"- {key}: {_md(value)}" for key, value in content.provenance(system).items()]
        parts += [f"### {_md(system.name)}", "\n".join(rows)]
    if content.notes:
        parts += ["## Notes", "\n".join(f"- {_md(note)}" for note in content.notes)]
    return "\n\n".join(parts) + "\n"


def _md_table(sheet: Sheet) -> str:
    lines = [
        _md_row(sheet.heads),
        _md_row(["---" if place in sheet.words else "---:" for place in range(len(sheet.heads))]),
    ]
    lines += [_md_row([_md_cell(cell) for cell in row]) for row in sheet.rows]
    return "\n".join(lines)


def _md_row(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _md_cell(cell: Cell) -> str:
    text = f"**{_md(cell.text)}**" if cell.strong else _md(cell.text)
    return f"{text} <sup>{cell.raised}</sup>" if cell.raised else text


def _md(text: str) -> str:
    """The text on one line with the marks of Markdown and HTML made plain."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", " ".join(text.split()))


def latex(content: Content) -> str:
    """The table of quality, to be read in with booktabs."""
    sheet = quality(content)
    rows = [" & ".join(_tex_cell(cell) for cell in row) + r" \\" for row in sheet.rows]
    return "\n".join(
        [
            r"% needs \usepackage{booktabs}",
            r"\begin{table}",
            r"\centering",
            rf"\begin{{tabular}}{{l{'r' * (len(sheet.heads) - 1)}}}",
            r"\toprule",
            " & ".join(_tex(head) for head in sheet.heads) + r" \\",
            r"\midrule",
            *rows,
            r"\bottomrule",
            r"\end{tabular}",
            rf"\caption{{{_tex(content.title)}. {_tex(sheet.caption)}}}",
            r"\end{table}",
            "",
        ]
    )


def _tex_cell(cell: Cell) -> str:
    text = rf"\textbf{{{_tex(cell.text)}}}" if cell.strong else _tex(cell.text)
    return f"{text}$^{{{cell.raised.replace(' ', '')}}}$" if cell.raised else text


_TEX = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}


def _tex(text: str) -> str:
    return re.sub(r"[\\~^&%$#_{}]", lambda found: _TEX.get(found[0], f"\\{found[0]}"), text)

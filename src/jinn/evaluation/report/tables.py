"""All figures in tables, by section; with several worlds each one's difference to the first."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from jinn.evaluation.report import glossary
from jinn.evaluation.report.parts import interval, scroll, section, table
from jinn.evaluation.results import Figure, Results


def tables(results: Results) -> str:
    """All figures, by section."""
    parts = []
    for key, title in glossary.SECTIONS.items():
        names = [name for name in results.names() if glossary.section_of(name) == key]
        if names:
            how = f'<p class="how">{glossary.INTRODUCTIONS[key]}</p>'
            rows = _distances(results, names) if key == "distances" else _figures(results, names)
            parts.append(f"<h3>{title}</h3>{how}{scroll(rows, title)}\n")
    how = "Means with their 95% intervals by bootstrap; n counts independent samples."
    return section("All figures", how, "".join(parts))


def _columns(results: Results) -> list[str]:
    """What stands over the cells of a figure: each world, and each world's difference to the first."""
    if len(results.worlds) == 1:
        return ["value"]
    first = escape(results.worlds[0].name)
    heads = [first]
    for w, world in enumerate(results.worlds[1:]):
        name = escape(world.name)
        heads += [name] + [f"{name} less {first}"] * (w < len(results.differences))
    return heads


def _cells(results: Results, name: str) -> Iterator[str]:
    """A figure's cells, in the order of `_columns`."""
    means = glossary.meaning(name)
    for w, world in enumerate(results.worlds):
        figure = world.figures.get(name)
        told = escape(name) + (f", n = {figure.count}" if figure else "")
        text = _value(figure, means.unit) if figure else glossary.NONE
        yield f'<td class="n" title="{told}">{text}</td>'
        if 0 < w <= len(results.differences):
            difference = results.differences[w - 1].get(name)
            yield f'<td class="n">{_difference(difference, means) if difference else ""}</td>'


def _value(figure: Figure, unit: str) -> str:
    return f'{glossary.show(figure.value, unit)}<small class="interval">{interval(figure, unit)}</small>'


def _difference(figure: Figure, means: glossary.Meaning) -> str:
    """A difference: bold, and in words, where its interval excludes zero."""
    text = glossary.show(figure.value, means.unit, sign=True)
    ends = f'<small class="interval">{interval(figure, means.unit, sign=True)}</small>'
    if figure.low <= 0 <= figure.high:
        return f"{text} <small>not clear</small>{ends}"
    if not means.better:
        return f"<b>{text}</b> <small>differs</small>{ends}"
    verdict = "better" if (figure.value > 0) == (means.better == "higher") else "worse"
    return f'<b>{text}</b> <small class="{verdict}">{verdict}</small>{ends}'


def _figures(results: Results, names: list[str]) -> str:
    """A row for each figure."""
    heads = "".join(f'<th scope="col" class="n">{head}</th>' for head in [*_columns(results), "n"])
    rows = ""
    for name in names:
        means = glossary.meaning(name)
        better = f" <em>{means.better.capitalize()} is better.</em>" if means.better else ""
        text = f"<p>{means.text}.{better}</p>" if means.text else ""
        found = (world.figures.get(name) for world in results.worlds)
        counts = " / ".join(dict.fromkeys(str(figure.count) for figure in found if figure))
        cells = "".join(_cells(results, name))
        code = escape(name).replace("/", "/<wbr>")  # where it may break on a phone
        head = f'<th scope="row"><code>{code}</code>{text}</th>'
        rows += f'<tr>{head}{cells}<td class="n">{counts}</td></tr>'
    kind = "figures" if len(results.worlds) == 1 else "figures several"
    return table(f'<th scope="col">figure</th>{heads}', rows, kind)


def _distances(results: Results, names: list[str]) -> str:
    """A row for each kind of distance, or several, one for each world; a column for each set of clips."""
    kinds = dict.fromkeys(name.partition("/")[0] for name in names)
    found = dict.fromkeys(name.partition("/")[2] for name in names)
    sets = [s for s in glossary.SETS if s in found] + [s for s in found if s not in glossary.SETS]
    heads = "".join(f'<th scope="col" class="n">{escape(glossary.SETS.get(s, s))}</th>' for s in sets)
    rows = ""
    for kind in kinds:
        text = f"<code>{escape(kind)}</code><p>{glossary.distance(kind)}.</p>"
        cells = zip(*(_cells(results, f"{kind}/{s}") for s in sets), strict=True)
        if len(results.worlds) == 1:
            rows += f'<tr><th scope="row">{text}</th>{"".join(next(cells))}</tr>'
            continue
        rows += f'<tr><th scope="rowgroup" colspan="{len(sets) + 1}">{text}</th></tr>'
        for label, row in zip(_columns(results), cells, strict=True):
            rows += f'<tr><th scope="row">{label}</th>{"".join(row)}</tr>'
    return table(f"<th></th>{heads}", rows, "figures distances")

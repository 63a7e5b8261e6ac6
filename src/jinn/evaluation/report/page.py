"""The page: settings, a summary of the main metrics, and all other sections below them."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from string import Template

from jinn.evaluation.catalogue import METRICS, PICTURES, SUMMARY, Metric
from jinn.evaluation.report import charts
from jinn.evaluation.report.curves import curves, training
from jinn.evaluation.report.films import clips, constant_actions
from jinn.evaluation.report.parts import interval, section, show
from jinn.evaluation.report.tables import legends, tables
from jinn.evaluation.results import Results, WorldResults
from jinn.files import write_json, write_text

STATIC = Path(__file__).parent / "static"


def write_report(results: Results, folder: Path) -> None:
    """Write ``report.json`` and ``report.html``; each atomically."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "report.json", results.to_json())
    write_text(folder / "report.html", page(results))


def page(results: Results) -> str:
    """The whole page."""
    template, style, script = (
        (STATIC / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "css", "js")
    )
    # Only this script may run, and nothing may be fetched.
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    names = " and ".join(escape(world.name) for world in results.worlds)
    sections = settings(results) + summary(results) + clips(results) + constant_actions(results)
    sections += legends(results.worlds) + curves(results.worlds) + training(results.worlds) + tables(results)
    titles = re.findall(r'<section id="(.*?)"><h2>(.*?)</h2>', sections)
    links = "".join(f'<a href="#{anchor}">{title}</a>' for anchor, title in titles)
    return Template(template).substitute(
        policy=policy, names=names, style=style, links=links, sections=sections, script=script
    )


def settings(results: Results) -> str:
    """Settings of the evaluation, and what was not measured."""
    terms = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>"
        for name, value in results.settings.items()
    )
    missing = "".join(f"<li>{escape(sentence)}</li>" for sentence in results.missing)
    note = f'<aside class="missing"><h2>Not measured</h2><ul>{missing}</ul></aside>' if missing else ""
    return f'<section><dl class="settings">{terms}</dl>{note}</section>\n'


def summary(results: Results) -> str:
    """The main metrics, each beside its baselines, and a glossary of the metrics that compare pictures."""
    measured = set(results.names())
    cards = "".join(_card(results.worlds, METRICS[name]) for name in SUMMARY if name in measured)
    words = "".join(
        f"<li><b>{short}</b>: {text}.</li>"
        for metric, (short, _, _, text) in PICTURES.items()
        if any(metric in name.split("/") for name in measured)
    )
    body = f'<div class="cards">{cards}</div><ul class="words">{words}</ul>' if cards else ""
    how = "With 95% intervals. The ticks in the strips are baselines to read the estimate beside."
    return section("Summary", how, body)


def _card(worlds: Sequence[WorldResults], metric: Metric) -> str:
    """The estimates of a metric, each beside its baselines, on one scale."""
    shown = []
    for world in worlds:
        if estimate := world.estimates.get(metric.name):
            found = (name for name in metric.baselines if name in world.estimates)
            baselines = {METRICS[name].title: world.estimates[name].value for name in found}
            shown.append((world.name, estimate, baselines | ({"no effect": 0.0} if metric.zero else {})))
    ends = [end for _, estimate, values in shown for end in (estimate.low, estimate.high, *values.values())]
    columns = ""
    for name, estimate, values in shown:
        title = f'<p class="name">{escape(name)}</p>' if len(worlds) > 1 else ""
        strip = charts.strip(estimate, values.values(), min(ends), max(ends)) if values else ""
        beside = "".join(
            f"<div><dt>{label}</dt><dd>{show(value, metric.unit)}</dd></div>"
            for label, value in values.items()
        )
        columns += (
            f'<div class="column">{title}<p class="big">{show(estimate.value, metric.unit)}</p>'
            f'<p class="interval">{interval(estimate, metric.unit)}</p>{strip}<dl>{beside}</dl></div>'
        )
    head = f"<h3>{metric.title}</h3><p>{metric.text}</p>"
    return f'<article>{head}<div class="columns">{columns}</div></article>'

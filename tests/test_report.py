"""The report: its files hold every result, as data and as text."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from helpers_report import EVIL, estimate, full_world, minimal, two_worlds
from jinn.evaluation.catalogue import METRICS, SECTIONS, SUMMARY
from jinn.evaluation.estimate import Estimate
from jinn.evaluation.report import charts, write_report
from jinn.evaluation.report.charts import Line, arrow_svg
from jinn.evaluation.report.curves import MOST_POINTS, _losses
from jinn.evaluation.report.parts import show
from jinn.evaluation.results import Results


def read(results: Results, folder: Path) -> str:
    write_report(results, folder)
    return (folder / "report.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("make", [two_worlds, minimal])
def test_every_estimate_is_in_both_files(make, tmp_path: Path) -> None:
    results = make()
    html = read(results, tmp_path / "new" / "folder")
    data = json.loads((tmp_path / "new" / "folder" / "report.json").read_text(encoding="utf-8"))
    assert data == json.loads(json.dumps(results.to_json()))
    for world, written in zip(results.worlds, data["worlds"], strict=True):
        assert {name: Estimate(**f) for name, f in written["estimates"].items()} == world.estimates
        assert written["curves"].keys() == world.curves.keys()
    for name in results.names():
        assert f'title="{name}, n = ' in html, name
    assert sorted(path.name for path in (tmp_path / "new" / "folder").iterdir()) == [
        "report.html",
        "report.json",
    ]


def test_names_given_by_users_are_escaped(tmp_path: Path) -> None:
    html = read(two_worlds(), tmp_path)
    assert EVIL not in html
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in html
    assert "a<b" not in html
    assert html.count("<script") == 1


def test_missing_measurements_are_explained_and_leave_no_empty_part(tmp_path: Path) -> None:
    html = read(minimal(), tmp_path)
    titles = ["Summary", "Curves by horizon", "All metrics"]
    assert re.findall("<h2>(.*?)</h2>", html) == titles
    assert re.findall('<a href="#.*?">(.*?)</a>', html) == titles
    assert "LPIPS" not in html
    assert "FVD" not in html
    assert "nan" not in html.lower().split("<body>")[1].split("<script>")[0]
    told = read(replace(minimal(), missing=("LPIPS needs a network & a file.",)), tmp_path)
    assert "Not measured" in told
    assert "LPIPS needs a network &amp; a file." in told


def test_differences_are_described_in_words(tmp_path: Path) -> None:
    results = two_worlds()
    verdicts = {"tokenizer/psnr": 0.2, "tokenizer/lpips": 0.2, "tokenizer/ssim": 0.0, "tokenizer/bits": 0.2}
    differences = {name: estimate(value, 0.1) for name, value in verdicts.items()}
    html = read(replace(results, differences=(differences,)), tmp_path)
    cells = {name: html.split(f'title="{name}, n')[2].split("</tr>")[0] for name in verdicts}
    assert "<b>+0.20 dB</b>" in cells["tokenizer/psnr"]
    assert ">better<" in cells["tokenizer/psnr"]
    assert ">worse<" in cells["tokenizer/lpips"]
    assert ">not clear<" in cells["tokenizer/ssim"]
    assert "<b>" not in cells["tokenizer/ssim"]
    assert ">differs<" in cells["tokenizer/bits"]


def test_distances_are_shown_with_their_floor(tmp_path: Path) -> None:
    html = read(replace(two_worlds(), worlds=(full_world("one"),), differences=()), tmp_path)
    row = next(row for row in html.split("<tr>") if "<code>fvd</code>" in row)
    order = [
        row.index(f"fvd/{s},") for s in ("next_frame", "inferred", "given", "floor", "static", "shuffled")
    ]
    assert order == sorted(order)


def test_every_metric_of_the_catalogue_is_complete() -> None:
    for name, metric in METRICS.items():
        assert metric.name == name
        assert metric.title
        assert metric.text
        assert not metric.text.endswith(".")
        assert metric.section in SECTIONS
        assert set(metric.baselines) <= set(METRICS)
    assert set(SUMMARY) <= set(METRICS)
    assert METRICS["inferred/psnr"].better == "higher"
    assert METRICS["inferred/psnr/copy_last/high_motion"].better == ""
    assert METRICS["inferred/psnr/high_motion"].baselines == ("inferred/psnr/copy_last/high_motion",)
    assert METRICS["fvd/next_frame"].better == "lower"


def test_metric_names_are_defined_in_one_file() -> None:
    """All others use the catalogue, so that a metric has one name, one text and one unit."""
    root = Path(__file__).parents[1]
    files = [*(root / "src").rglob("*.py"), *(root / "scripts").glob("*.py")]
    spelled = {file.name for file in files if "delta_psnr" in file.read_text(encoding="utf-8")}
    assert spelled == {"catalogue.py"}


def test_a_summary_shows_an_estimate_beside_its_baselines(tmp_path: Path) -> None:
    html = read(replace(two_worlds(), worlds=(full_world("one"),), differences=()), tmp_path)
    cards = {card.split("</h3>")[0]: card for card in html.split("<article><h3>")[1:]}
    assert list(cards) == [METRICS[name].title for name in SUMMARY]
    shown = re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", cards["Roll-out, inferred actions: PSNR"])
    assert shown == [("copy-last-frame baseline", "18.00 dB")]
    assert re.findall("<dt>(.*?)</dt><dd>(.*?)</dd>", cards["Delta_4 PSNR"]) == [("no effect", "0.00 dB")]


@pytest.mark.parametrize(
    ("value", "unit", "sign", "text"),
    [
        (33.126, "dB", False, "33.13 dB"),
        (-0.5, "dB", True, "−0.50 dB"),  # noqa: RUF001
        (0.1234, "fraction", False, "12.3%"),
        (0.02, "fraction", True, "+2.0 points"),
        (0.91234, "score", False, "0.912"),
        (1234.5, "distance", False, "1,234"),
        (99.97, "distance", False, "100"),
        (5.2, "distance", False, "5.20"),
        (math.nan, "dB", False, "–"),  # noqa: RUF001
    ],
)
def test_numbers_have_a_suitable_precision(value: float, unit: str, sign: bool, text: str) -> None:
    assert show(value, unit, sign) == text


def test_arrows_point_in_the_direction_of_motion() -> None:
    assert "rotate(90.0)" in arrow_svg(2.0, 0.0)  # down, as SVG turns clockwise
    assert "rotate(180.0)" in arrow_svg(0.0, -2.0)
    assert "<circle" in arrow_svg(0.01, 0.0)

    def length(speed: float) -> float:
        found = re.search(r"M(-[\d.]+) 0H([\d.]+)M", arrow_svg(0.0, speed))
        assert found
        return float(found[2]) - float(found[1])

    assert length(1.0) < length(2.0) < length(4.0) == length(9.0)


def test_a_chart_has_the_colours_of_the_page_and_tells_its_ends() -> None:
    points = [(float(t), Estimate(30.0 - t, 29.0 - t, 31.0 - t, 8, 0)) for t in range(1, 5)]
    lines = [Line("ours", 1, points), Line("a < b", 0, points[:1], dashed=True)]
    svg = charts.line_chart(lines, "PSNR", "frame", "{:.0f} dB".format)
    assert svg == charts.line_chart(lines, "PSNR", "frame", "{:.0f} dB".format)
    assert 'aria-label="PSNR: ours 29 dB to 26 dB; a &lt; b 29 dB to 29 dB"' in svg
    assert {"--c1", "--c0", "--soft", "--line"} <= set(re.findall(r"var\((--\w+)\)", svg))
    assert set(re.findall("#[0-9a-f]{6}", svg)) == set()
    style = Path(charts.__file__).with_name("static").joinpath("report.css").read_text(encoding="utf-8")
    named = dict(re.findall(r"--(\w+): (#\w+);", style.partition("@media")[0]))
    assert (*(named[f"c{i}"] for i in range(7)), named["soft"], named["line"]) == (
        *charts.COLOURS,
        charts.INK,
        charts.GRID,
    )


def test_long_logs_are_subsampled_to_their_last_step() -> None:
    world = replace(full_world("one"), training={"dynamics": [(i, float(i)) for i in range(10_001)]})
    steps = [step for step, _ in _losses(world, "dynamics")]
    assert MOST_POINTS <= len(steps) <= 2 * MOST_POINTS
    assert steps[-1] == 10_000
    assert {b - a for a, b in pairwise(steps)} == {25}


def test_a_loss_over_more_than_a_decade_is_logarithmic(tmp_path: Path) -> None:
    html = read(two_worlds(), tmp_path)
    assert "<b>tokenizer</b> loss, logarithmic<" in html
    assert "<b>dynamics</b> loss<" in html

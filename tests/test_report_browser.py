"""The report as a file in a real browser: its pictures move, it fits, and it loads nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from browsers import launched, until
from helpers_evaluation import measure_little
from helpers_report import T, minimal, two_worlds
from helpers_world import make_world
from jinn.data.synthetic import write_game
from jinn.evaluation import suite
from jinn.evaluation.networks import Networks
from jinn.evaluation.protocol import Protocol
from jinn.evaluation.report import write_report

pytestmark = pytest.mark.slow

OpenReport = Callable[..., Any]
# The position of the first clip's window in its strip, in frames.
SHOWN = """(() => {
    const film = document.querySelector(".film").getBoundingClientRect();
    const strip = document.querySelector(".film img").getBoundingClientRect();
    return Math.round((film.left - strip.left) / film.width * 100) / 100;
})()"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with launched() as browser:
        yield browser


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("reports")
    write_report(two_worlds(), folder / "two")
    write_report(minimal(), folder / "minimal")
    game = write_game(folder / "game", episodes=24, length=60, seed=500)
    world = make_world()
    world.trained_on = game.groups[:4]
    protocol = Protocol(clips=16, frames=6, draws=1, long_rollouts=2, long_frames=60, shown=2)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("JINN_CACHE", str(folder / "cache"))
        measure_little(patch)
        patch.setattr(suite, "load_networks", lambda *_: Networks(None, None, ("not there",)))
        write_report(suite.evaluate([world], game, protocol), folder / "measured")
    return folder


@pytest.fixture
def open_report(browser: Any, folder: Path) -> Iterator[OpenReport]:
    """Opens a report in its own context; errors, and requests other than for the file, fail the test."""
    errors: list[str] = []
    requests: list[str] = []
    contexts: list[Any] = []

    def open_report(name: str = "two", **options: Any) -> Any:
        context = browser.new_context(**options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on(
            "console", lambda line: errors.append(line.text) if line.type in ("error", "warning") else None
        )
        page.on("request", lambda request: requests.append(request.url))
        page.goto((folder / name / "report.html").as_uri())
        return page

    yield open_report
    for context in contexts:
        context.close()
    assert errors == []
    assert [url for url in requests if not url.startswith("data:")] == [
        url for url in requests if url.startswith("file:") and url.endswith("report.html")
    ]
    assert any(url.startswith("file:") for url in requests)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("name", ["two", "minimal", "measured"])
def test_the_report_fits_and_is_complete(open_report: OpenReport, name: str, width: int, scheme: str) -> None:
    page = open_report(name, viewport={"width": width, "height": 800}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    pictures = "[...document.images].map(i => [i.complete && i.naturalWidth > 0, i.alt !== ''])"
    found = page.evaluate(f"Promise.all([...document.images].map(i => i.decode())).then(() => {pictures})")
    # The real clips of both worlds are the same and shown once: 2 x (1 + 2) clips, 2 x P x A with constant actions.
    # The measured world: 2 clips real, with inferred and with given actions, and 5 constant actions from both prompts.
    assert found == [[True, True]] * ({"two": 18, "minimal": 0, "measured": 2 * 3 + 2 * 5}[name])
    ground = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (ground == "rgb(15, 17, 22)") == (scheme == "dark")


def test_the_report_plays_pauses_and_scrubs(open_report: OpenReport) -> None:
    page = open_report()
    button, slider = page.locator(".controls button").first, page.locator(".controls input").first
    assert button.inner_text() == "Pause"
    until(page, f"{SHOWN} >= 2")
    until(page, f"{SHOWN} === 0")  # wraps around
    button.click()
    assert button.inner_text() == "Play"
    at = page.evaluate(SHOWN)
    page.wait_for_timeout(800)  # longer than any frame
    assert page.evaluate(SHOWN) == at
    slider.fill("3")
    assert page.evaluate(SHOWN) == 3
    slider.press("ArrowRight")
    assert page.evaluate(SHOWN) == 4
    button.press("ArrowLeft")
    assert page.evaluate(SHOWN) == 3
    assert page.locator(".controls output").first.inner_text() == f"frame 3 of {T - 1}"
    button.press("p")
    until(page, f"{SHOWN} !== 3")


def test_clips_of_a_sheet_are_synchronised_and_sheets_are_not(open_report: OpenReport) -> None:
    page = open_report(reduced_motion="reduce")
    page.locator(".controls input").first.fill("2")
    shown = page.evaluate("""(() => {
        const place = (film) => {
            const [window, strip] = [film, film.firstElementChild].map((e) => e.getBoundingClientRect());
            return Math.round((window.left - strip.left) / window.width);
        };
        const sheets = [...document.querySelectorAll(".sheet")];
        return sheets.map((sheet) => [...new Set([...sheet.querySelectorAll(".film")].map(place))]);
    })()""")
    assert shown == [[2], [0], [0]]


def test_keys_without_focus_step_the_visible_sheet(open_report: OpenReport) -> None:
    page = open_report(reduced_motion="reduce")
    page.locator(".clips").scroll_into_view_if_needed()
    page.keyboard.press("ArrowLeft")
    assert page.evaluate(SHOWN) == T - 1


def test_nothing_moves_with_reduced_motion(open_report: OpenReport) -> None:
    page = open_report(reduced_motion="reduce")
    assert page.locator(".controls button").first.inner_text() == "Play"
    page.wait_for_timeout(800)
    assert page.evaluate(SHOWN) == 0


def test_without_scripts_first_frames_are_shown(open_report: OpenReport) -> None:
    page = open_report(java_script_enabled=False)
    film = page.locator(".film").first.bounding_box()
    strip = page.locator(".film img").first.bounding_box()
    assert strip["x"] == pytest.approx(film["x"])
    assert strip["width"] == pytest.approx(T * film["width"], rel=0.01)
    assert page.locator(".controls").first.is_hidden()

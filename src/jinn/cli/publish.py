"""``jinn publish``"""

from __future__ import annotations

from pathlib import Path

import rich.table
import tyro

from jinn.cli.console import console, say
from jinn.errors import JinnError
from jinn.files import check_writable
from jinn.world.folder import built_in_worlds
from jinn.world.world import World


def publish(
    worlds: tyro.conf.Positional[tuple[str, ...]] = (),
    /,
    *,
    out: Path,
    title: str | None = None,
    description: str | None = None,
    address: str = "",
    runtime: Path | None = None,
    anyway: bool = False,
) -> None:
    """Write worlds as a web page that plays on any static host.

    Args:
        worlds: Names of built-in worlds, or folders of worlds or of runs. The default is all built-in worlds. The
            page opens with the first.
        out: Folder to write, such as site. A site that is already there is replaced.
        title: Title of the page. The default is the names of the worlds.
        description: One sentence that previews of links show.
        address: Where the page will be, such as https://me.github.io/street/. Some previews of links show a picture
            only if they know it.
        runtime: Folder with ONNX Runtime Web. The default is the user's cache, where npm fetches it to once.
        anyway: Publish a world even if most browsers would be too slow for it.
    """
    from jinn.player import publish as publishing
    from jinn.player.gallery import gallery
    from jinn.player.runtime import find_runtime
    from jinn.world.web import export_web

    publishing.earlier_files(out)  # now, so that a mistake is told before minutes of work
    entries = gallery(worlds or built_in_worlds(), World.load)
    loaded = {entry.name: entry.load() for entry in entries}
    for name, world in loaded.items():
        check_speed(name, publishing.frames_per_second(world), publishing.SLOWEST, anyway)
    site = publishing.Site(
        title or f"{', '.join(loaded)} · jinn",
        description
        or "A world learned from video: hold a key, and a model generates each next frame in your browser.",
        address,
    )
    check_writable(out)
    with console.status("fetching ONNX Runtime Web"):
        files = find_runtime(runtime)
    exported = {}
    for name, world in loaded.items():
        assert world.folder is not None
        with console.status(f"exporting {name}"):
            exported[name] = publishing.Exported(world, export_web(world, world.folder))
    sizes = publishing.publish(exported, out, site, files)
    console.print(size_table(sizes, out))
    say(f"Try it:          python -m http.server -d {out}    and open http://localhost:8000")
    say(f"GitHub Pages:    commit {out} as the folder docs of a repository, and choose it in Settings, Pages")
    say(
        f"Hugging Face:    hf upload me/my-world {out} --repo-type space    (its README.md says that it is static)"
    )


def check_speed(name: str, fps: float, slowest: float, anyway: bool) -> None:
    """Raise `JinnError` if a world is too heavy for a browser, or say that it is."""
    if fps >= slowest:
        return
    estimate = f"{name} would play at about {fps:.1f} frames a second in a browser on one core"
    if not anyway:
        raise JinnError(f"{estimate}: publish a smaller world, or this one all the same with --anyway")
    say(estimate)


def size_table(sizes: dict[str, int], out: Path) -> rich.table.Table:
    """Every file of the site with its size; packs are compressed already."""
    import gzip

    compressed = {
        path: size if path.endswith((".pack", ".png")) else len(gzip.compress((out / path).read_bytes()))
        for path, size in sizes.items()
    }
    table = rich.table.Table(
        rich.table.Column("file", overflow="fold"), "kB", "kB compressed", show_footer=True
    )
    table.columns[0].footer = f"{len(sizes)} files"
    for column, values in (1, sizes), (2, compressed):
        table.columns[column].justify = "right"
        table.columns[column].footer = f"{sum(values.values()) / 1000:,.1f}"
    for path in sorted(sizes):
        table.add_row(path, f"{sizes[path] / 1000:,.1f}", f"{compressed[path] / 1000:,.1f}")
    return table

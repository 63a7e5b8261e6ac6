"""``jinn teach``"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import tyro

from jinn.cli.console import console, progress, say
from jinn.cli.data import with_options
from jinn.cli.info import key_table
from jinn.data.store import FrameStore
from jinn.errors import JinnError
from jinn.files import temporary_folder
from jinn.world.folder import check_teachable, copy_taught, write_keys
from jinn.world.keys import Taught, key_names
from jinn.world.keys import teach as teach_keys
from jinn.world.label import label as label_store
from jinn.world.world import World


def teach(
    world: tyro.conf.Positional[str],
    source: tyro.conf.Positional[str],
    /,
    out: Path | None = None,
    names: str | None = None,
    frames: int | None = None,
    env: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
) -> None:
    """Teach a world the keys of its game from a minute of play.

    Args:
        world: Name of a built-in world, or folder of a world or of a run. The keys are saved in its folder; the
            player's page and the environment then have the game's own actions.
        source: Frame store with true actions made by jinn data, or an environment such as
            envpool:CoinrunHard-v0, which is played for a minute.
        out: Folder for a taught copy. The world itself then stays as it is, as a built-in world must.
        names: Names of the game's actions in its order, such as left,right,jump. The default is those of the
            game, where they are known.
        frames: Number of frames to play of an environment. The default is a minute of them.
        env: Option of the environment, as KEY=VALUE, such as use_backgrounds=false; may be given several times.
    """
    from jinn.evaluation.actions import nmi_with_true_actions

    loaded = World.load(world)
    assert loaded.folder is not None
    check_teachable(loaded.folder, out)
    given = None if names is None else names.split(",")
    with labelled_play(source, loaded, frames, env) as store:
        named = key_names(store, given)
        with progress() as show:
            labels_X = label_store(loaded, store, on_episode=partial(show, "labelling"))
        taught = teach_keys(labels_X, store, loaded.num_actions, named)
        nmi = nmi_with_true_actions(labels_X, store, loaded.num_actions)
    if out is None:
        write_keys(taught.keys, loaded.folder)
    else:
        copy_taught(loaded.folder, taught.keys, out)
    loaded.keys = taught.keys
    console.print(key_table(loaded))
    tell(taught)
    if nmi:
        say(f"The NMI of latent and true actions is {nmi.value:.3f} [{nmi.low:.3f}, {nmi.high:.3f}].")
    say(f"The keys are in {(out or loaded.folder) / 'keys.json'}; play with them: jinn play {out or world}")


@contextmanager
def labelled_play(
    source: str, world: World, frames: int | None, options: Sequence[str]
) -> Iterator[FrameStore]:
    """The store that a source names, or one of an environment's play that lasts as long as the context."""
    from jinn.data.ingest import CHUNK_FRAMES, ingest

    library = source.partition(":")[0]
    if library not in CHUNK_FRAMES:
        if frames is not None or options:
            raise JinnError("--frames and --env are for environments: a store is read whole, leave them out")
        yield FrameStore.open(source)
        return
    with temporary_folder("jinn-teach") as scratch:
        folder = scratch / "store"
        with progress() as show:
            ingest(
                [with_options(source, options)],
                folder,
                fps=world.fps,
                size_hw=world.size_hw,
                fit=world.config.fit,
                frames=round(60 * world.fps) if frames is None else frames,
                policy="random" if library == "synthetic" else "sticky",
                progress=partial(show, "playing"),
            )
        yield FrameStore.open(folder)


def tell(taught: Taught) -> None:
    """Print how far the keys can be trusted, and which were never taught."""
    say(
        f"When a key is pressed, the latent action model sees the latent action of that key in "
        f"{taught.agreement:.0%} of the steps; by guessing it would be {taught.guessing:.0%}. "
        "(Each half of the play is measured by the keys of the other half.)"
    )
    if missing := [key.name for key in taught.keys if not key.count]:
        say(f"Never pressed, so they are unknown and have no button on the page: {', '.join(missing)}.")

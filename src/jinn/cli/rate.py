"""``jinn rate``"""

from __future__ import annotations

import secrets
from pathlib import Path

import tyro

from jinn.cli.console import DEVICE, progress, say
from jinn.errors import JinnError

CLASSIFIER = "classifier"  # the folder of the classifier in that of the curation


def rate(
    folder: tyro.conf.Positional[Path],
    /,
    name: str | None = None,
    train: bool = False,
    precision: float = 0.9,
    width: int = 64,
    epochs: int = 40,
    seed: int = 0,
    port: int | None = None,
    host: str = "127.0.0.1",
    token: str | None = None,
    allow_host: tyro.conf.UseAppendAction[tuple[str, ...]] = (),
    browser: bool = True,
    device: str = DEVICE,
) -> None:
    """Rate clips of videos, and train a classifier on that.

    Args:
        folder: Folder of a curation, made by jinn curate. Ratings are added to its ratings.jsonl.
        name: Name of the person who rates. By default the page asks for it.
        train: Train the classifier on the ratings that there are, into FOLDER/classifier, instead of showing the page.
        precision: With --train, fraction of the clips that the classifier keeps which should be good.
        width: With --train, channels of the first stage. 64 is the paper's ResNet18; a smaller one is faster.
        epochs: With --train, how often each clip is seen.
        seed: With --train, seed of everything random.
        port: Port to listen on. The default is JINN_PORT, else the usual port, or a free one if that is taken.
        host: Address to listen on. With 0.0.0.0 everybody in the network who knows the token can rate.
        token: Access token for other machines. If it is not given and the host is not this machine alone, one
            is generated.
        allow_host: Name by which browsers address a proxy before this server. May be repeated.
        browser: Whether the page is opened in a browser.
        device: With --train, device to train on, such as cpu or cuda.
    """
    if train:
        return learn(folder, precision, width, epochs, seed, device)
    from jinn.curation.rating_page import Room, create_rating_app
    from jinn.player.server import serve_app
    from jinn.web.auth import is_loopback

    if token is None and not is_loopback(host):
        token = secrets.token_urlsafe(12)
    app = create_rating_app(Room(folder, name), token, allow_host)
    serve_app(app, f"showing the clips of {folder}", host, port, browser, token)


def learn(folder: Path, precision: float, width: int, epochs: int, seed: int, device: str) -> None:
    """Train the classifier and say what it reaches."""
    from jinn.curation.classifier import ClassifierConfig
    from jinn.curation.clip import read_clips
    from jinn.curation.learning import train_classifier
    from jinn.curation.ratings import agreement, labels, latest, read_ratings

    clips = {row.clip.name: row.clip for row in read_clips(folder)}
    by_clip = {clip: people for clip, people in latest(read_ratings(folder)).items() if clip in clips}
    if not by_clip:
        raise JinnError(f"no clip of {folder} is rated yet: run jinn rate {folder}")
    is_good, alpha = labels(by_clip), agreement(by_clip)
    good, between = sum(is_good.values()), len(by_clip) - len(is_good)
    say(
        f"{len(by_clip)} clips are rated: {good} are good, {len(is_good) - good} bad, and {between} between, which are "
        "left out" + ("" if alpha is None else f"; people agree with an alpha of {alpha:.2f}")
    )
    with progress() as show:
        classifier, held = train_classifier(
            [clips[name] for name in is_good], list(is_good.values()), ClassifierConfig(width=width),
            precision=precision, epochs=epochs, seed=seed, device=device, show=show,
        )  # fmt: skip
    classifier.save(folder / CLASSIFIER)
    say(f"on {held.clips} clips of {held.films} films that were not trained on, {held.good} of them good:")
    say(f"clips with a confidence of {held.confidence:.3f} or more are kept")
    if not held.reaches:
        say(f"no confidence gives the precision of {precision:g}: this is the best; more ratings may help")
    say(f"precision {held.precision}, recall {held.recall}, with 95% intervals over films")
    say(f"{folder / CLASSIFIER} is the classifier")

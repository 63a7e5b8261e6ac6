"""Worlds on the Hugging Face hub: a repository there is a world's folder. It needs the extra `hub`."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinn.contracts import JinnError
from jinn.files import temporary_folder, write_text

if TYPE_CHECKING:
    from jinn.world.world import World

# What a world's folder may hold: nothing else is fetched.
FILES = ["*.json", "*.safetensors", "frame-*.onnx", "README.md"]

CARD = """\
---
library_name: jinn
tags: [world-model]
---
# {name}

A playable world of {width} x {height} pixels at {fps:g} frames per second, with {actions} actions:

    world = jinn.World.from_pretrained("{repo}")
"""


def is_repository(name: str) -> bool:
    """Whether a name could be that of a repository, OWNER/NAME."""
    return re.fullmatch(r"\w[\w.-]*/\w[\w.-]*", name) is not None


def download(repo: str, revision: str | None) -> Path:
    """The folder of a repository's files in the hub's cache; raises `JinnError` if they cannot be had."""
    try:
        return Path(_api().snapshot_download(repo, revision=revision, allow_patterns=FILES))
    except Exception as error:  # of the network, the hub, the disk, or that they are not there
        if isinstance(error, JinnError):
            raise
        raise JinnError(
            f"{repo!r} is no folder, and could not be had from the Hugging Face hub: {first_line(error)}"
        ) from error


def upload(world: World, repo: str, private: bool | None, message: str) -> str:
    """Make a repository of a world, or a new commit in it, and return its address; raises `JinnError`."""
    api = _api()
    with temporary_folder("jinn-upload") as scratch:
        folder = scratch / "world"
        world.save(folder)
        card = world.folder / "README.md" if world.folder else None
        if card and card.is_file():
            text = card.read_text(encoding="utf-8")
        else:
            height, width = world.size_hw
            size = {"width": width, "height": height, "fps": world.fps, "actions": world.num_actions}
            text = CARD.format(name=world.name, repo=repo, **size)
        write_text(folder / "README.md", text)
        try:
            url = api.create_repo(repo, private=private, exist_ok=True)
            api.upload_folder(repo_id=repo, folder_path=folder, commit_message=message)
        except Exception as error:  # as above
            raise JinnError(
                f"the world could not be put on the Hugging Face hub as {repo!r} (hf auth login gives access): "
                f"{first_line(error)}"
            ) from error
    return str(url)


def first_line(error: Exception) -> str:
    """What an exception says first."""
    return next(iter(str(error).strip().splitlines()), type(error).__name__)


def _api() -> Any:
    try:
        import huggingface_hub
    except ImportError:
        raise JinnError("the Hugging Face hub needs an extra: pip install 'jinn[hub]'") from None
    return huggingface_hub.HfApi(library_name="jinn")

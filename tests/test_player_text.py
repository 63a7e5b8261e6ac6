"""Texts become first frames, by a real pipeline of diffusers with random weights."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from helpers_player import Player
from jinn.contracts import JinnError
from jinn.player.api import create_app
from jinn.player.protocol import DEFAULT_LIMITS, FrameKind
from jinn.player.server import running
from jinn.player.text import TextToImage
from tiny_pipeline import save_pipeline
from tiny_world import tiny_world

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def text_to_image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TextToImage]:
    text_to_image = TextToImage(str(save_pipeline(tmp_path_factory.mktemp("text"))), "cpu", steps=1)
    yield text_to_image
    text_to_image.close()


def test_a_text_always_gives_the_same_picture(text_to_image: TextToImage) -> None:
    cave = text_to_image.generate("a dark cave", (32, 32))
    assert (cave.shape, cave.dtype) == ((32, 32, 3), np.uint8)
    assert np.array_equal(cave, text_to_image.generate("a dark cave", (32, 32)))
    assert not np.array_equal(cave, text_to_image.generate("blue sky", (32, 32)))


def test_play_starts_from_a_text(text_to_image: TextToImage) -> None:
    with running(create_app(tiny_world(), text_to_image=text_to_image)) as address, Player(address) as player:
        assert player.world["text"]
        player.send("settings", idle=None)
        player.send("text", text="a dark cave", seed=3)
        picture, begin = player.frame(), player.frame()
        assert (picture.kind, begin.kind) == (FrameKind.PROMPT, FrameKind.START)
        assert np.array_equal(picture.pixels_HWC, text_to_image.generate("a dark cave", (32, 32)))
        assert player.play(0).step == 1
        for bad in ("", " ", "x" * 1001, 7):
            player.send("text", text=bad)
            assert "text must be" in player.error()


def test_the_error_without_a_text_model_says_how_to_install_one() -> None:
    with running(create_app(tiny_world())) as address, Player(address) as player:
        assert not player.world["text"]
        player.send("text", text="a dark cave")
        assert player.error() == player.world["text_why_not"]
        assert "--text" in player.world["text_why_not"]


def test_a_missing_model_is_reported(tmp_path: Path) -> None:
    text_to_image = TextToImage(str(tmp_path), "cpu")
    with pytest.raises(JinnError, match="no text-to-image model in this folder"):
        text_to_image.generate("a cave", (32, 32))
    text_to_image.close()


def test_the_queue_of_texts_is_bounded(text_to_image: TextToImage) -> None:
    async def many() -> list[object]:
        texts = (text_to_image(f"cave {i}", (32, 32)) for i in range(DEFAULT_LIMITS.max_waiting_texts + 2))
        return await asyncio.gather(*texts, return_exceptions=True)

    drawn = asyncio.run(many())
    refused = [result for result in drawn if isinstance(result, JinnError)]
    assert len(refused) == 2
    assert all("waiting" in str(error) for error in refused)
    assert sum(isinstance(result, np.ndarray) for result in drawn) == DEFAULT_LIMITS.max_waiting_texts

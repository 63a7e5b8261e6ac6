"""Text to a picture, by a text-to-image pipeline of diffusers: any of a hub's or of a folder's."""

from __future__ import annotations

import asyncio
import importlib.util
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from jinn.contracts import JinnError
from jinn.player.pictures import fit_picture

MOST_WAITING = 8
WHY_NOT = (
    "this server draws no texts: start it with jinn play --text MODEL, a text-to-image model of diffusers"
)


class Painter:
    """A text-to-image pipeline, loaded when it is first asked, one text at a time.

    Args:
        model: a folder of a pipeline as diffusers saves it, or its name on the hub.
        size_hw: of the world: what the picture is cropped and resized to.
        device: where it computes.
        steps: of denoising; None is what the pipeline itself thinks right.

    Raises:
        JinnError: diffusers is not installed.
    """

    def __init__(
        self, model: str, size_hw: tuple[int, int], device: str | torch.device, steps: int | None = None
    ) -> None:
        if importlib.util.find_spec("diffusers") is None:
            raise JinnError("drawing texts needs diffusers: pip install 'jinn[text]'")
        self.model, self.size_hw, self.device, self.steps = model, size_hw, torch.device(device), steps
        self.pipeline: Any = None
        self.waiting = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="painter")

    async def __call__(self, text: str) -> np.ndarray:
        """A picture of a text, uint8 (H, W, 3) of the world's size.

        Raises:
            JinnError: too many wait already, or the pipeline failed.
        """
        if self.waiting >= MOST_WAITING:
            raise JinnError(f"{MOST_WAITING} texts are waiting to be drawn: try again in a while")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, self.paint, text)
        finally:
            self.waiting -= 1

    def paint(self, text: str) -> np.ndarray:
        """The same, waiting for it. The same text gives the same picture."""
        try:
            if self.pipeline is None:
                self.pipeline = self._load()
            given = {} if self.steps is None else {"num_inference_steps": self.steps}
            chance = torch.Generator().manual_seed(0)
            images: Sequence[Image.Image] = self.pipeline(text, generator=chance, **given).images
        except JinnError:
            raise
        except Exception as error:
            raise JinnError(
                f"the text-to-image model failed ({type(error).__name__}): see the terminal"
            ) from error
        return fit_picture(images[0].convert("RGB"), self.size_hw)

    def _load(self) -> Any:
        from diffusers import AutoPipelineForText2Image

        half = torch.float16 if self.device.type == "cuda" else torch.float32
        try:
            # Weights of safetensors alone: nothing is ever unpickled.
            pipeline = AutoPipelineForText2Image.from_pretrained(
                self.model, dtype=half, use_safetensors=True, low_cpu_mem_usage=False
            )
        except Exception as error:
            where = "in this folder" if Path(self.model).exists() else "of this name"
            raise JinnError(f"there is no text-to-image model {where}: {self.model} ({error})") from None
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    def close(self) -> None:
        """Let the thread end."""
        self.thread.shutdown(wait=False, cancel_futures=True)

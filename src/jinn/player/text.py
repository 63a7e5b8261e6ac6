"""Text prompts: pictures by a pipeline of diffusers; the player knows only `jinn.player.shared.TextToImage`."""

from __future__ import annotations

import asyncio
import importlib.util
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from jinn.contracts import find_device
from jinn.errors import JinnError
from jinn.player.pictures import fit_picture
from jinn.player.protocol import DEFAULT_LIMITS


class TextToImage:
    """A text-to-image pipeline, loaded with the first text; it works on one text at a time.

    The model is the folder of a pipeline as diffusers saves it, or its name on the hub. Pictures are cropped and
    resized. The number of denoising steps is the pipeline's own if ``steps`` is None.

    Raises:
        JinnError: diffusers is not installed, or this machine has no such device.
    """

    def __init__(self, model: str, device: str | torch.device, steps: int | None = None) -> None:
        if importlib.util.find_spec("diffusers") is None:
            raise JinnError("text prompts need diffusers: pip install 'jinn[text]'")
        self.model, self.device, self.steps = model, find_device(device), steps
        self.pipeline: Any = None
        self.waiting = 0
        self.thread = ThreadPoolExecutor(1, thread_name_prefix="text to image")

    async def __call__(self, text: str, size_hw: tuple[int, int]) -> np.ndarray:
        """A picture of a text, uint8 (H, W, 3); `JinnError` if too many texts are waiting, or the pipeline failed."""
        if self.waiting >= DEFAULT_LIMITS.max_waiting_texts:
            raise JinnError(f"{self.waiting} texts are waiting for their pictures: try again in a while")
        self.waiting += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self.thread, self.generate, text, size_hw)
        finally:
            self.waiting -= 1

    def generate(self, text: str, size_hw: tuple[int, int]) -> np.ndarray:
        """The same, blocking. The same text gives the same picture."""
        try:
            if self.pipeline is None:
                self.pipeline = self._load()
            options = {} if self.steps is None else {"num_inference_steps": self.steps}
            generator = torch.Generator().manual_seed(0)
            image: Image.Image = self.pipeline(text, generator=generator, **options).images[0]
        except JinnError:
            raise
        except Exception as error:
            raise JinnError(
                f"the text-to-image model failed ({type(error).__name__}): see the server log"
            ) from error
        return fit_picture(image.convert("RGB"), size_hw)

    def _load(self) -> Any:
        from diffusers import AutoPipelineForText2Image

        dtype = torch.float16 if self.device.type == "cuda" else torch.float32
        try:
            # Weights from safetensors only: nothing is ever unpickled.
            pipeline = AutoPipelineForText2Image.from_pretrained(
                self.model, dtype=dtype, use_safetensors=True, low_cpu_mem_usage=False
            )
        except Exception as error:
            where = "in this folder" if Path(self.model).exists() else "of this name"
            raise JinnError(f"there is no text-to-image model {where}: {self.model} ({error})") from None
        pipeline.set_progress_bar_config(disable=True)
        return pipeline.to(self.device)

    def close(self) -> None:
        """End the thread."""
        self.thread.shutdown(wait=False, cancel_futures=True)

"""Latent actions as labels of any video: ``jinn label`` writes them, and policies are cloned from them."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from jinn.data.store import FrameStore
from jinn.world.world import World


@torch.inference_mode()
def label(
    world: World,
    store: FrameStore,
    chunk: int = 64,
    on_episode: Callable[[int, int], None] = lambda *_: None,
) -> np.ndarray:
    """Label every step of a store by a world's latent action model.

    ``chunk`` frames are encoded at once; where the model has temporal attention, a chunk starts with the last frames of
    the chunk before. ``on_episode`` is called with the number of episodes done and of all. Frames of another size than
    the world's raise `JinnError`.

    Returns:
        int64, one number per frame in the store's order: the action that leads to the next frame, -1 for the
        last frame of an episode.
    """
    encoder = world.config.latent_actions.encoder
    context = encoder.window - 1 if encoder.temporal_every else 0
    labels_X = np.full(store.num_frames, -1, np.int64)
    for episode, (begin, length) in enumerate(zip(store.starts, store.lengths, strict=True)):
        for first in range(0, length - 1, chunk):
            start, stop = max(0, first - context), min(first + chunk + 1, length)
            frames = torch.from_numpy(store.frames(episode, start, stop)).unsqueeze(0)
            codes = world.infer_actions(frames.to(world.device))[0].cpu().numpy()
            labels_X[begin + first : begin + stop - 1] = codes[first - start :]
        on_episode(episode + 1, store.num_episodes)
    return labels_X

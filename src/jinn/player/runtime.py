"""ONNX Runtime Web, which computes the frames of a published page: found or fetched, and checked.

It is data for a page and no dependency of this package, so it is fetched only when somebody publishes: once, by npm,
which knows its registry. Version and content are pinned, so every page computes the same frames from the same input.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import NamedTuple

from jinn.errors import JinnError
from jinn.files import cache_folder, replacing, temporary_folder

PACKAGE = "onnxruntime-web@1.30.0"
SCRIPT, WASM = "ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm"
SHA256 = {
    SCRIPT: "11e64bd8ffe11bd1a2a2f0d6275fdfbbba7262f0b76b99b53d228a8a22ef3d90",
    WASM: "3398c10d07d229bd91b364548e130e0e51a8e5704b88c7c083ebbeb78842dee2",
}
PATIENCE = 600  # seconds for a download of 33 MB


class Runtime(NamedTuple):
    """The files of the runtime: its script, and the WebAssembly build for processors."""

    script: bytes
    wasm: bytes


def find_runtime(folder: Path | None = None) -> Runtime:
    """The runtime in a folder, such as ``dist`` of the npm package; None is the user's cache, where npm fetches it to.

    Raises:
        JinnError: files are missing or of another version, or they cannot be fetched.
    """
    if folder is not None:
        return _read(folder, f"name the folder dist of {PACKAGE}")
    folder = cache_folder() / PACKAGE.replace("@", "-")
    if not all((folder / name).exists() for name in SHA256):
        _fetch(folder)
    return _read(folder, f"remove {folder} and publish again")


def _read(folder: Path, remedy: str) -> Runtime:
    files = []
    for name, wanted in SHA256.items():
        path = folder / name
        if not path.is_file():
            raise JinnError(f"there is no {name} in {folder}: {remedy}")
        files.append(path.read_bytes())
        if hashlib.sha256(files[-1]).hexdigest() != wanted:
            raise JinnError(f"{path} is damaged or not of {PACKAGE} (its checksum is another one): {remedy}")
    return Runtime(*files)


def _fetch(folder: Path) -> None:
    """Let npm download the package, and keep the two files of it."""
    npm = shutil.which("npm")
    by_hand = f"or name a folder with the files {SCRIPT} and {WASM} of {PACKAGE} (--runtime FOLDER)"
    if npm is None:
        raise JinnError(f"a page needs ONNX Runtime Web, which npm downloads once: install npm, {by_hand}")
    with temporary_folder("jinn-runtime") as scratch:
        command = [npm, "pack", PACKAGE, "--ignore-scripts", "--silent", "--pack-destination", str(scratch)]
        try:
            made = subprocess.run(
                command, cwd=scratch, capture_output=True, text=True, timeout=PATIENCE, check=False
            )
            why = (made.stderr or made.stdout).strip().rpartition("\n")[-1] if made.returncode else ""
        except subprocess.TimeoutExpired:
            why = f"it took longer than {PATIENCE // 60} minutes"
        archives = list(scratch.glob("*.tgz"))
        if why or not archives:
            raise JinnError(
                f"npm could not download {PACKAGE} ({why or 'no file came'}): try again, {by_hand}"
            )
        files: dict[str, bytes] = {}
        try:
            with tarfile.open(archives[0]) as archive:
                for name in SHA256:
                    file = archive.extractfile(f"package/dist/{name}")
                    assert file is not None
                    files[name] = file.read()
        except (tarfile.TarError, OSError, EOFError, KeyError) as error:
            raise JinnError(f"the download of {PACKAGE} is damaged ({error}): try again, {by_hand}") from None
    folder.mkdir(parents=True, exist_ok=True)
    for name, data in files.items():
        with replacing(folder / name) as temporary:
            temporary.write_bytes(data)

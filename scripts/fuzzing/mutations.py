"""Damage for `fuzz.py`: a folder of valid files with one to three changes, each of bytes or of what the bytes mean.

Everything is a function of a `random.Random`: the same seed damages the same files in the same way.
"""

from __future__ import annotations

import io
import json
import struct
import zlib
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

import numpy as np
from safetensors.numpy import load, save

from fuzzing.files import Files

# What a value of JSON, or of a setting, is replaced by.
VALUES: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 3, 7, 255, 2**31 - 1, 2**31, 2**32, 2**53, 2**63 - 1, 2**63, -(2**63), 2**64),
    *(10**9, 10**15, 10**30, 10**400, 0.5, -0.5, 1e-300, 1e300, -1e300, float("nan"), float("inf"), -float("inf")),
    *("", "a", "none", "x" * 5000, "two words\nand a line", "\0", "\ud800", "\x1b[31m", "../../../etc/passwd", "é"),
    *([], {}, [None], [[]], {"": None}, [1, 2], [1, 2, 3, 4], [-1], ["a"], {"a": 1}, [0] * 300),
)  # fmt: skip
# What a number is replaced by: of its own type, and in part possible.
WHOLE = (
    -(2**31),
    -1,
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    16,
    17,
    31,
    32,
    33,
    63,
    64,
    65,
    100,
    255,
    1000,
    10**5,
    2**31,
    2**62,
)
PARTS = (-1e300, -1.0, -0.1, 0.0, 1e-300, 1e-9, 0.05, 0.5, 0.95, 1.0, 1.5, 2.0, 100.0, 1e9, 1e300)
DEPTHS = (20, 400, 100_000)  # of nested lists
NEST = "\x00nest {}\x00"  # stands for them until JSON is text: they are too deep to be written by `json`
INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1)
DTYPES = ("bool", "uint8", "int8", "int32", "int64", "uint64", "float16", "float32", "float64")


def damage(files: Files, rng: Random) -> Files:
    """The files with one to three changes."""
    changed = dict(files)
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        name = rng.choice(sorted(changed))
        if len(files) > 1 and rng.random() < 0.04:
            _misplace(changed, name, rng)
            continue
        kinds = MEANING.get(name.rpartition(".")[2], [])
        change = rng.choice(kinds) if kinds and rng.random() < 0.75 else change_bytes
        try:
            changed[name] = change(changed[name], rng)
        except Exception:  # what an earlier change left is nothing that this one understands
            changed[name] = change_bytes(changed[name], rng)
    return changed


def _misplace(files: Files, name: str, rng: Random) -> None:
    """A file is missing, empty or in the place of another."""
    match rng.randrange(3):
        case 0 if len(files) > 1:
            del files[name]
        case 1:
            files[name] = b""
        case _:
            files[name] = files[rng.choice(sorted(files))]


# ---- Bytes ------------------------------------------------------------------------------------------------


def change_bytes(data: bytes, rng: Random) -> bytes:
    """Bits flipped, bytes overwritten, inserted, deleted, cut off or repeated; often near the beginning."""
    reach = len(data) if rng.random() < 0.5 else min(len(data), 64)
    at = rng.randrange(reach + 1)
    length = rng.choice((1, 1, 2, 4, 8, 64, 1000))
    match rng.randrange(7):
        case 0:
            content = bytearray(data)
            for _ in range(rng.choice((1, 1, 3, 30))):
                if reach:
                    content[rng.randrange(reach)] ^= 1 << rng.randrange(8)
            return bytes(content)
        case 1:
            return data[:at] + rng.randbytes(length) + data[at + length :]
        case 2:
            return data[:at] + rng.randbytes(length) + data[at:]
        case 3:
            return data[:at] + data[at + length :]
        case 4:
            return data[:at]
        case 5:
            return data[: at + length] + data[at:]
        case _:
            number = rng.choice(INTEGERS).to_bytes(4, rng.choice(("little", "big")))
            return data[:at] + number + data[at + 4 :]


# ---- JSON, and settings as PATH=VALUE ---------------------------------------------------------------------


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Each (container, key) within a value of JSON."""
    for key in (
        range(len(value)) if isinstance(value, list) else list(value) if isinstance(value, dict) else ()
    ):
        yield value, key
        yield from places(value[key])


def change_value(document: Any, rng: Random) -> Any:
    """One value of a document replaced, removed, renamed, added to, scaled, or exchanged for another one of it."""
    found = list(places(document))
    if not found or rng.random() < 0.02:
        return rng.choice(VALUES)
    container, key = rng.choice(found)
    value = container[key]
    if type(value) in (int, float) and rng.random() < 0.5:
        container[key] = rng.choice(WHOLE if type(value) is int else PARTS)
        return document
    match rng.randrange(9):
        case 0:
            del container[key]
        case 1 if isinstance(container, dict):
            container[rng.choice(("", "colour", key + "x", "__class__", "\ud800"))] = container.pop(key)
        case 2 if isinstance(container, dict):
            container[rng.choice(("extra", "version", "seed", "frames"))] = rng.choice(VALUES)
        case 3:
            container[key] = NEST.format(rng.choice(DEPTHS))
        case 4 if isinstance(value, int | float):
            container[key] = value * rng.choice((-1, 2, 0.5, 1000, 10**9)) + rng.choice((0, 1, -1))
        case 5 if isinstance(value, list):
            value += value * rng.choice((1, 2, 300))
        case 6:
            other, there = rng.choice(found)
            container[key] = other[there]
        case _:
            container[key] = rng.choice(VALUES)
    return document


def change_json(data: bytes, rng: Random) -> bytes:
    """`change_value` of a JSON file."""
    text = json.dumps(change_value(json.loads(data), rng), ensure_ascii=rng.random() < 0.8)
    for depth in DEPTHS:
        text = text.replace(json.dumps(NEST.format(depth)), "[" * depth + "]" * depth)
    return text.encode(errors="surrogatepass")


def change_pairs(data: bytes, rng: Random) -> bytes:
    """Lines of PATH=VALUE with another value, another path, or one line more or less."""
    lines = data.decode().split("\n")
    number = rng.randrange(len(lines))
    path, _, value = lines[number].partition("=")
    new = rng.choice((*map(str, VALUES), "1e9", "0.1,0.2", "8,8", "64,64", "1,2,3", "none"))
    if rng.random() < 0.7:
        numbers = WHOLE if "." not in value else PARTS
        new = ",".join(str(rng.choice(numbers)) if rng.random() < 0.7 else part for part in value.split(","))
        lines[number] = f"{path}={new}"
        return "\n".join(lines).encode()
    match rng.randrange(5):
        case 0:
            lines[number] = (
                f"{rng.choice((path[1:], path + 'x', path.upper(), path + '.x', path.partition('.')[0], ''))}={value}"
            )
        case 1:
            lines[number] = rng.choice(
                (path, new, "=", "==", f"{path}={value}={value}", f" {path} = {value}")
            )
        case _:
            lines[number] = f"{path}={new}"
    return "\n".join(lines).encode(errors="surrogatepass")


# ---- Arrays and tensors -----------------------------------------------------------------------------------


def change_array(array: np.ndarray, rng: Random) -> np.ndarray:
    """An array of another type, shape or length, or with other values."""
    match rng.randrange(6):
        case 0:
            with np.errstate(all="ignore"):
                return array.astype(rng.choice(DTYPES))
        case 1:
            return array.reshape(rng.choice(((-1,), (1, *array.shape), (*array.shape, 1), array.shape[::-1])))
        case 2:
            return array[: rng.choice((0, 1, len(array) // 2, len(array) - 1))] if array.ndim else array[None]
        case 3:
            return np.concatenate([array, array]) if array.ndim else np.stack([array, array])
        case 4:
            return np.array(rng.choice((0, -1, 3.5, 10**6)), array.dtype)
        case _:
            content = array.copy().reshape(-1)
            value = rng.choice((0, 1, -1, 100, 10**9, 2**62, -(2**63), float("nan"), float("inf"), -1e30))
            with np.errstate(all="ignore"):
                content[rng.choice((slice(None), slice(0, 1), slice(-1, None)))] = np.array(value).astype(
                    array.dtype
                )
            return content.reshape(array.shape)


def change_tensors(data: bytes, rng: Random) -> bytes:
    """A tensor of safetensors changed, removed, renamed or added."""
    tensors = {name: np.array(value) for name, value in load(data).items()}
    name = rng.choice(sorted(tensors))
    match rng.randrange(8):
        case 0:
            del tensors[name]
        case 1:
            tensors[name + "x"] = tensors.pop(name)
        case 2:
            tensors["more"] = tensors[name]
        case 3:
            other = rng.choice(sorted(tensors))
            tensors[name], tensors[other] = tensors[other], tensors[name]
        case _:
            tensors[name] = np.ascontiguousarray(change_array(tensors[name], rng))
    return save(tensors)


def change_header(data: bytes, rng: Random) -> bytes:
    """The JSON at the head of safetensors changed: types, shapes and offsets that do not fit what follows."""
    (length,) = struct.unpack_from("<Q", data)
    header, rest = data[8 : 8 + length], data[8 + length :]
    if rng.random() < 0.2:
        return (
            struct.pack("<Q", rng.choice((0, 1, length - 1, length + 1, 2**31, 2**63, 2**64 - 1)))
            + header
            + rest
        )
    changed = change_json(header, rng)
    return struct.pack("<Q", len(changed)) + changed + rest


def change_npz(data: bytes, rng: Random) -> bytes:
    """An array of an .npz changed or removed; one that holds JSON is changed as such."""
    with np.load(io.BytesIO(data)) as content:
        arrays = {name: content[name] for name in content.files}
    name = rng.choice(sorted(arrays))
    if rng.random() < 0.1:
        del arrays[name]
    elif arrays[name].dtype == np.uint8 and arrays[name][:1] == ord("{"):
        arrays[name] = np.frombuffer(change_json(arrays[name].tobytes(), rng), np.uint8)
    else:
        arrays[name] = change_array(arrays[name], rng)
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def change_npy(data: bytes, rng: Random) -> bytes:
    """The array of an .npy changed, or only what its head says of its shape or type."""
    if rng.random() < 0.5:
        file = io.BytesIO()
        np.save(file, change_array(np.load(io.BytesIO(data)), rng))
        return file.getvalue()
    length = struct.unpack_from("<H", data, 8)[0]
    shape = rng.choice(
        ("(2, 99999999, 99999999, 3)", "(-1, 8, 8, 3)", "(0, 8, 8, 3)", "()", "(2,)", "[2]", "None")
    )
    kind = rng.choice(("|u1", "|u1", "<f8", "|O", "<U9", "|V3"))
    text = f"{{'descr': '{kind}', 'fortran_order': {rng.choice((False, True))}, 'shape': {shape}, }}"
    return data[:10] + text.ljust(length - 1).encode()[: length - 1] + b"\n" + data[10 + length :]


# ---- PNG --------------------------------------------------------------------------------------------------


def change_png(data: bytes, rng: Random) -> bytes:
    """A chunk of a PNG changed, removed or repeated, with checksums that fit: the decoder reads on."""
    chunks, at = [], 8
    while at + 8 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        chunks.append((data[at + 4 : at + 8], data[at + 8 : at + 8 + length]))
        at += 12 + length
    number = rng.randrange(len(chunks))
    kind, content = chunks[number]
    match rng.randrange(6):
        case 0:
            del chunks[number]
        case 1:
            chunks.insert(rng.randrange(len(chunks)), (kind, content))
        case 2:
            size = [rng.choice((0, 1, 32, 5000, 65535, 2**31 - 1)) for _ in range(2)]
            more = bytes(
                [rng.choice((1, 2, 4, 8, 16, 3)), rng.choice((0, 2, 3, 4, 6, 1)), 0, 0, rng.choice((0, 1))]
            )
            chunks[0] = (b"IHDR", struct.pack(">II", *size) + more)
        case 3:
            pixels = zlib.decompress(b"".join(c for k, c in chunks if k == b"IDAT"))
            chunks = [c for c in chunks if c[0] != b"IDAT"]
            chunks.insert(-1, (b"IDAT", zlib.compress(change_bytes(pixels, rng))))
        case 4:
            name = rng.choice(
                (b"tRNS", b"PLTE", b"gAMA", b"iCCP", b"zTXt", b"eXIf", b"acTL", b"fcTL", b"fdAT")
            )
            chunks.insert(
                rng.randrange(1, len(chunks)), (name, rng.randbytes(rng.choice((0, 1, 6, 26, 256))))
            )
        case _:
            chunks[number] = (kind, change_bytes(content, rng))
    parts = (struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in chunks)
    return data[:8] + b"".join(parts)


MEANING: dict[str, list[Callable[[bytes, Random], bytes]]] = {
    "json": [change_json],
    "jsonl": [change_bytes],
    "txt": [change_pairs],
    "safetensors": [change_tensors, change_tensors, change_header],
    "npz": [change_npz],
    "npy": [change_npy],
    "png": [change_png],
}

"""Makers of hostile folders: each changes a copy of a saved head, a sweep or a fine-tuned model that was good."""

import json
import os
import socket
import struct
import zipfile
from pathlib import Path

import numpy as np
from irregular import device, directory, fifo
from safetensors.numpy import load_file, save_file

HEAD, WEIGHTS, MODEL, ROWS = "head.json", "weights.safetensors", "model.skops", "rows.safetensors"
GIB = 2**30


# ------------------------------------------------------------------------------------- what is no regular file


def unix_socket(path: Path) -> None:
    path.unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(path.parent)  # a socket's path has 108 bytes
        try:
            server.bind(path.name)
        finally:
            os.chdir(here)


def loop(path: Path) -> None:
    path.unlink(missing_ok=True)
    path.symlink_to(path)


IRREGULAR = {"fifo": fifo, "device": device, "folder": directory, "socket": unix_socket, "loop": loop}


# ------------------------------------------------------------------------------------------------- documents


def document(path: Path, change) -> None:
    """Change what a JSON file holds; `change` may also give a new document."""
    values = json.loads(path.read_text())
    values = change(values) or values
    path.write_text(json.dumps(values))


def setting(*keys, to):
    """Change: the value at this place."""

    def change(values):
        for key in keys[:-1]:
            values = values[key]
        values[keys[-1]] = to

    return change


def swelling(path: Path) -> None:
    """66 MB that would be 2 GB of lists."""
    path.write_bytes(b"[" + b"[]," * (22 * 10**6) + b"[]]")


def swelling_within_limits(path: Path) -> None:
    path.write_bytes(b"[" + b"[]," * (10 * 10**6) + b"[]]")


def deep(path: Path) -> None:
    path.write_bytes(b"[" * 200_000 + b"]" * 200_000)


def sparse(path: Path, size: int = 3 * GIB) -> None:
    with path.open("r+b") as file:
        file.truncate(size)


def long_list(path: Path) -> None:
    """A head of four million class names."""
    names = [f"{i:x}" for i in range(3_000_000)]
    document(path, setting("class_names", to=names))


def many_trials(path: Path) -> None:
    """180 MB of trials."""
    values = json.loads(path.read_text())
    trial = json.dumps(values["trials"][0])
    values["trials"] = []
    text = json.dumps(values).replace(
        '"trials": []', '"trials": [' + ",".join([trial] * (180 * 10**6 // len(trial))) + "]"
    )
    path.write_text(text)


def trials_within_limits(path: Path) -> None:
    """As many trials as the reader lets through."""
    values = json.loads(path.read_text())
    trial = json.dumps(values["trials"][0] | {"scores": {}, "losses": [], "parts": []}, separators=(",", ":"))
    values["trials"] = []
    text = json.dumps(values).replace('"trials": []', '"trials": [' + ",".join([trial] * 50_000) + "]")
    path.write_text(text)


def many_lines(path: Path) -> None:
    """A list of trials as long as the reader lets through."""
    first, trial, *_ = path.read_bytes().splitlines(keepends=True)
    short = json.dumps(json.loads(trial) | {"scores": {}, "losses": [], "parts": []}, separators=(",", ":"))
    path.write_bytes(first + (short.encode() + b"\n") * (33 * 10**6 // (len(short) + 1)))


# --------------------------------------------------------------------------------------------------- tensors


def tensors(path: Path, header: dict, size: int, data: bytes = b"") -> None:
    """A safetensors file of this header, and after it so many bytes: mostly a hole."""
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + size)


def _header(path: Path) -> dict:
    data = path.read_bytes()
    return json.loads(data[8 : 8 + struct.unpack("<Q", data[:8])[0]])


def extra_tensor(path: Path) -> None:
    """What a head has, and 3 GB more."""
    header = _header(path)
    end = max(entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__")
    header["more"] = {"dtype": "U8", "shape": [3 * GIB], "data_offsets": [end, end + 3 * GIB]}
    tensors(path, header, end + 3 * GIB)


def wide_tensor(path: Path) -> None:
    """A tensor of the right name, of 3 GB."""
    header = _header(path)
    name = next(name for name in header if name != "__metadata__")
    tensors(path, {name: {"dtype": "F32", "shape": [3 * GIB // 4], "data_offsets": [0, 3 * GIB]}}, 3 * GIB)


def overlapping(path: Path) -> None:
    header = _header(path)
    first, *_ = names = [name for name in header if name != "__metadata__"]
    for name in names:
        header[name] = header[first]
    tensors(path, header, header[first]["data_offsets"][1])


def other_types(path: Path) -> None:
    save_file({name: array.astype(np.float64) for name, array in load_file(path).items()}, path)


def other_shapes(path: Path) -> None:
    save_file({name: array.reshape(-1)[:1] for name, array in load_file(path).items()}, path)


def header_of_garbage(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 64) + b"[" * 64)


def endless_header(path: Path) -> None:
    path.write_bytes(struct.pack("<Q", 2**63))


def header_of_many(path: Path) -> None:
    """90 MB of header: a million tensors of nothing."""
    entry = '"{:x}":{{"dtype":"F32","shape":[0],"data_offsets":[0,0]}}'
    text = ("{" + ",".join(entry.format(i) for i in range(1_400_000)) + "}").encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text)


def many_rows(path: Path) -> None:
    """Digests of 200 million images: a hole of 3.2 GB."""
    header = _header(path)
    splits, end = {}, 0
    for split in ("train", "validation", "test"):
        rows = 200_000_000 if split == "train" else 0
        splits[split] = {"dtype": "U8", "shape": [rows, 16], "data_offsets": [end, end + 16 * rows]}
        end += 16 * rows
    assert header
    tensors(path, splits, end)


def rows_within_limits(path: Path) -> None:
    """Digests of as many images as the reader lets through."""
    rows = 2**23
    splits = {"train": {"dtype": "U8", "shape": [rows, 16], "data_offsets": [0, 16 * rows]}}
    for split in ("validation", "test"):
        splits[split] = {"dtype": "U8", "shape": [0, 16], "data_offsets": [16 * rows, 16 * rows]}
    tensors(path, splits, 16 * rows)


# -------------------------------------------------------------------------------------------------- archives


def _members(path: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(path) as archive:
        return {item.filename: archive.read(item) for item in archive.infolist()}


def archive(path: Path, members: dict[str, bytes], **how) -> None:
    with zipfile.ZipFile(path, "w", **how) as file:
        for name, data in members.items():
            file.writestr(name, data)


def bomb(path: Path) -> None:
    """A member that swells to a gigabyte."""
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file,
        file.open("schema.json", "w", force_zip64=True) as one,
    ):
        for _ in range(64):
            one.write(b" " * 2**24)


def padded_bomb(path: Path) -> None:
    """The same, in a file that is as large: with a hole before the archive."""
    bomb(path)
    data = path.read_bytes()
    with path.open("wb") as file:
        file.seek(4 * GIB)
        file.write(data)


def deep_schema(path: Path) -> None:
    archive(path, _members(path) | {"schema.json": b'{"content":' * 100_000 + b"1" + b"}" * 100_000})


def swelling_schema(path: Path) -> None:
    archive(path, _members(path) | {"schema.json": b"[" + b"[]," * (22 * 10**6) + b"[]]"})


def json_within_json(path: Path) -> None:
    """Text that would become twenty times as much when skops reads it."""
    schema = json.loads(_members(path)["schema.json"])
    schema["content"]["mean"] = {
        "__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True, "__id__": 1,
        "content": "[" + "[]," * 400_000 + "[]]",
    }  # fmt: skip
    archive(path, _members(path) | {"schema.json": json.dumps(schema).encode()})


def doubled_member(path: Path) -> None:
    data = _members(path)
    archive(path, data)
    with zipfile.ZipFile(path, "a") as file:
        file.writestr("schema.json", data["schema.json"])


def shared_bytes(path: Path) -> None:
    """A thousand arrays from one member."""
    members = _members(path)
    schema = json.loads(members["schema.json"])
    node = {"__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "numpy"}
    content = [node | {"file": "big.npy", "__id__": i} for i in range(1000)]
    schema["content"]["mean"] = {
        "__class__": "list", "__module__": "builtins", "__loader__": "ListNode", "content": content, "__id__": 7,
    }  # fmt: skip
    npy = path.with_name("big.npy")
    np.save(npy, np.zeros(4 * 10**6))
    members |= {"big.npy": npy.read_bytes(), "schema.json": json.dumps(schema).encode()}
    npy.unlink()
    archive(path, members)


def many_members(path: Path) -> None:
    """A directory of a million entries."""
    entry = struct.pack("<4s6H3L5H2L", b"PK\1\2", 20, 20, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    count = 1_500_000
    with path.open("wb") as file:
        for i in range(count):
            file.write(entry + f"{i:07x}".encode())
        size = file.tell()
        at = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, 0)
        file.write(at + struct.pack("<4sLQL", b"PK\6\7", 0, size, 1))
        file.write(struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0))


def other_class(path: Path) -> None:
    members = _members(path)
    members["schema.json"] = members["schema.json"].replace(b'"KNeighborsClassifier"', b'"KNeighborsRegressor"')
    archive(path, members)


def other_loader(path: Path) -> None:
    members = _members(path)
    members["schema.json"] = members["schema.json"].replace(b'"ListNode"', b'"MethodNode"')
    archive(path, members)


def array_of_objects(path: Path) -> None:
    schema = json.loads(_members(path)["schema.json"])
    number = {"__class__": "str", "__module__": "builtins", "__loader__": "JsonNode", "is_json": True, "content": "8"}
    shape = {"__class__": "tuple", "__module__": "builtins", "__loader__": "TupleNode", "content": [number]}
    schema["content"]["mean"] = {
        "__class__": "ndarray", "__module__": "numpy", "__loader__": "NdArrayNode", "type": "json", "content": [],
        "shape": shape, "__id__": 1,
    }  # fmt: skip
    archive(path, _members(path) | {"schema.json": json.dumps(schema).encode()})


def lying_array(path: Path) -> None:
    """An array that says to have a million million numbers."""
    members = _members(path)
    name = next(name for name, data in members.items() if name != "schema.json" and len(data) > 400)
    text = b"{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000), }".ljust(117) + b"\n"
    members[name] = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(64)
    archive(path, members)

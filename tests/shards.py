"""Real tar shards for all tests."""

import io
import json
import tarfile
from pathlib import Path

import numpy as np
from PIL import Image


def picture(number: int, channel: int = 0, form: str = "png") -> bytes:
    """A small image, each of them different: a colour with noise."""
    pixels = np.random.default_rng(number).integers(0, 120, (20, 24, 3), dtype=np.uint8)
    pixels[..., channel % 3] += 100
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, form)
    return file.getvalue()


def write_tar(path: Path, members, form: int = tarfile.PAX_FORMAT) -> Path:
    """A tar of pairs of names and bytes, in their order; a member may be a TarInfo instead of its name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w", format=form) as tar:
        for name, data in members:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return path


def sample(key: str, label: object, number: int, **more: object):
    """The members of one sample, as WebDataset writes them; with `more`, a json holds the label."""
    yield f"{key}.png", picture(number, number)
    if more:
        yield f"{key}.json", json.dumps({"label": label, **more}).encode()
    elif label is not None:
        yield f"{key}.cls", str(label).encode()


def samples(labels, start: int = 0):
    """Members of samples with these labels."""
    return [member for i, label in enumerate(labels, start) for member in sample(f"{i:04d}", label, i)]


def write_shards(folder: Path, per_shard: int = 6, shards: int = 2, classes: int = 3) -> Path:
    """A folder of tars, ``pets-000.tar`` and so on, with numbers as labels."""
    for number in range(shards):
        first = number * per_shard
        write_tar(
            folder / f"pets-{number:03d}.tar",
            samples([i % classes for i in range(first, first + per_shard)], first),
        )
    return folder


def write_parquet(path: Path, images, labels, names=None, *, paths=None, row_group_size: int = 3, **columns) -> Path:
    """A Parquet file as Hugging Face writes it; with `names` of the classes in its metadata."""
    import pyarrow as pa
    from pyarrow.parquet import write_table

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": each, "path": name} for each, name in zip(images, paths or [None] * len(images), strict=True)]
    kind = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    table = pa.table({"image": pa.array(cells, kind), "label": labels, **columns})
    if names:
        features = {"image": {"_type": "Image"}, "label": {"names": list(names), "_type": "ClassLabel"}}
        table = table.replace_schema_metadata({"huggingface": json.dumps({"info": {"features": features}})})
    write_table(table, path, row_group_size=row_group_size)
    return path

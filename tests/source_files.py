"""Files of sources, and what is said of a source that cannot serve: for the tests of all formats."""

import os

import pytest

from featurestore.errors import SourceError
from featurestore.sources.opener import open_source


def put(path, data=None):
    """A file and the folders above it; by default with its own path as its bytes, so that digests differ."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(os.fsencode(path.name) + b"@" + os.fsencode(path.parent.name) if data is None else data)
    return path


def link(path, target):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)
    return path


def tree(root, *paths):
    for path in paths:
        put(root / path)
    return root


def table(path, *lines, encoding="utf-8"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines), encoding=encoding)
    return path


def rows(source):
    return [(s.id, s.path, source.class_names[s.label], s.split) for s in source.listing().samples]


def refused(*args, **options):
    with pytest.raises(SourceError) as caught:
        open_source(*args, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)

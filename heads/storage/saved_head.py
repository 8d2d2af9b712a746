"""Saved heads: a folder with ``head.json``, the file of the head's arrays, and the record of the rows that it has seen.

A folder may come from anybody: nothing in it is unpickled, sizes are checked against each other before use, and
everything that is wrong becomes a HeadError. Format versions 1 to 5 are what :meth:`FittedHead.to_dict` returns. Data
that an older reader may ignore is added to version 1, as ``fitted_on``, ``chosen_by``, ``conformity`` and the files of
:mod:`heads.storage.record` and :mod:`heads.storage.novelty` were. Data that it must not ignore needs a new version,
which only those heads state that have such data: version 2 those of numeric columns, version 3 those of several labels
or of a number, whose ``task`` holds how scores become answers (:class:`heads.tasks.base.Link`), version 4 those of two
classes with a ``threshold``, version 5 those that were adapted and have no bias to hold the ``offset`` of each class
(:meth:`heads.kinds.base.Head.adapted`).
"""

import json
import os
import secrets
import shutil
from dataclasses import replace
from pathlib import Path
from textwrap import shorten

import numpy as np

from featurestore.errors import HeadError
from featurestore.system.documents import LIMIT, parse
from featurestore.system.files import read_regular, sync, why, write_error
from heads.documents import HeadDocument, HeadVersion
from heads.feature_table import Input
from heads.kinds.base import MODEL, WEIGHTS, Head
from heads.kinds.design import HeadDesign
from heads.storage.fitted_head import FORMAT, FORMAT_VERSION, PLAIN, FittedHead, version_of
from heads.storage.novelty import Novelty
from heads.storage.numeric_input import NumericInput
from heads.storage.record import MEASURED, ROWS, Record
from heads.storage.state_file import pack_state, read_state
from heads.tasks.base import Link
from heads.tasks.registry import TASKS

__all__ = ["FittedHead", "check_target", "load_head", "save_head"]

HEAD, NOVELTY = "head.json", "novelty.safetensors"


_SHOWN = 400
"""A message repeats so many characters of a reason at most."""


def check_target(folder: str | os.PathLike[str]) -> None:
    """Check that a head can be saved in a folder, which may be missing, empty, or a saved head.

    Raises:
        HeadError: the path is a file, or a folder with other things.
    """
    folder = Path(folder)
    if not folder.is_dir():
        if folder.exists():
            raise HeadError(f"{folder}: is a file: name another folder for the head")
        return
    names = {item.name for item in folder.iterdir()}
    if names and not (HEAD in names and names <= {HEAD, WEIGHTS, MODEL, ROWS, MEASURED, NOVELTY}):
        raise HeadError(f"{folder}: holds other things than a saved head: name another folder, it would be replaced")


def save_head(folder: str | os.PathLike[str], fitted: FittedHead) -> FittedHead:
    """Save a head. At every moment either the old head or the new one can be loaded from the folder.

    Args:
        folder: a folder that is made, or replaced if it is a saved head.
        fitted: the head.

    Returns:
        The head, with its path.

    Raises:
        HeadError: the path is a file, or a folder with other things.
        WriteError: the folder cannot be written.
    """
    folder = Path(folder)
    check_target(folder)
    folder = folder.resolve()
    new, old = folder.with_name(f".{folder.name}.new-{secrets.token_hex(4)}"), _previous(folder)
    check_target(old)
    try:
        new.mkdir(parents=True)
        (new / fitted.head.weights_file).write_bytes(pack_state(fitted.head))
        if fitted.record:
            (new / ROWS).write_bytes(fitted.record.packed())
        if fitted.novelty:
            (new / NOVELTY).write_bytes(fitted.novelty.packed())
        if (folder / MEASURED).exists():  # so that fitting again does not hide how often the test rows were used
            (new / MEASURED).write_bytes(read_regular(folder / MEASURED, LIMIT))
        (new / HEAD).write_text(json.dumps(replace(fitted, path=None).to_dict(), indent=1) + "\n")
        for path in (*new.iterdir(), new):
            sync(path)
        if folder.exists():
            shutil.rmtree(old, ignore_errors=True)
            folder.rename(old)
        new.rename(folder)
        sync(folder.parent)
        shutil.rmtree(old, ignore_errors=True)
    except OSError as error:
        raise write_error(folder, error) from error
    finally:
        shutil.rmtree(new, ignore_errors=True)
    return replace(fitted, path=folder)


def load_head(folder: str | os.PathLike[str]) -> FittedHead:
    """Load a saved head. Linear and dense heads need NumPy alone, others scikit-learn.

    Args:
        folder: the folder that :func:`heads.fit_head` or a sweep saved the head in.

    Raises:
        HeadError: there is no saved head, or it is damaged, altered, or written by a newer version.

    Example:
        >>> from heads import load_features, load_head
        >>> head = load_head("head")
        >>> X, y = load_features("digits.h5").select("test")
        >>> head.predict_proba(X).sum(axis=1).round(6).min()
        np.float64(1.0)
    """
    path = Path(folder)
    if not path.exists() and _previous(path).is_dir():  # killed just before the new head took its name
        path = _previous(path)
    file = path / HEAD
    try:
        values = _read_document(file)
        design = HeadDesign(values["kind"], values["params"])
        head = design.build(values["seed"])
        class_names = tuple(values["class_names"])
        head.classes_, head.n_features_in_ = np.array(values["classes"], np.intp), values["width"]
        head.temperature_, head.history_ = values["temperature"], values.get("history", {})
        if "task" in values:
            head.task_ = TASKS[values["task"]["name"]]
            head.link_ = Link.from_dict(values["task"], len(class_names))
        if "offset" in values:
            head.offset_ = np.array(values["offset"], np.float64)
        _check_classes(head, class_names)
        inputs = tuple(map(Input.from_dict, values["inputs"]))
        file = path / head.weights_file
        head.restore(read_state(file, head))
        record = None
        if "fitted_on" in values:
            file = path / ROWS
            record = Record.read(file, values)
        novelty, numeric = None, tuple(map(NumericInput.from_dict, values.get("numeric", [])))
        if os.path.lexists(path / NOVELTY):
            file = path / NOVELTY
            novelty = Novelty.read(file, values["width"] - len(numeric))
        file = path / HEAD
        return FittedHead(
            head=head,
            design=design,
            class_names=class_names,
            inputs=inputs,
            numeric=numeric,
            record=record,
            threshold=values.get("threshold"),
            conformity=_conformity(values),
            novelty=novelty,
            path=path,
            **{name: values[name] for name in PLAIN},  # type: ignore[literal-required]
        )
    except FileNotFoundError as error:
        raise HeadError(f"{file}: no such file: give the folder of a saved head, see  featurestore fit-head") from error
    except Exception as error:  # skops may raise anything on a model file that somebody else made
        raise HeadError(
            f"{file}: not a readable saved head ({reason(error)}): copy it anew, or fit it again"
        ) from error


def _previous(folder: Path) -> Path:
    """Return the folder that keeps the old head until the new one is in place."""
    return folder.with_name(f".{folder.name}.previous")


def reason(error: Exception) -> str:
    """Return why a file cannot be read, as a part of a line."""
    if isinstance(error, KeyError):
        return f"no {shorten(str(error), _SHOWN)}"
    return shorten(why(error) if isinstance(error, OSError) else str(error), _SHOWN)


def _read_document(path: Path) -> HeadDocument:
    text = read_regular(path, LIMIT)
    version = parse(text, HeadVersion)
    if version["format"] != FORMAT or not 1 <= version["format_version"] <= FORMAT_VERSION:
        raise ValueError(f"format {version['format']!r} version {version['format_version']}: upgrade featurestore")
    values = parse(text, HeadDocument)
    if ("fitted_on" in values) != ("chosen_by" in values):
        raise ValueError("fitted_on stands there without chosen_by, or the other way round")
    numeric = len(values.get("numeric", []))
    asked = "task" in values
    parted, shifted = "threshold" in values, "offset" in values
    if version["format_version"] != version_of(shifted, parted, asked, bool(numeric)):
        more = ", a task" * asked + ", a threshold" * parted + ", an offset" * shifted
        raise ValueError(f"version {version['format_version']} with {numeric} numeric columns{more}")
    if parted and (asked or not len(values["class_names"]) == len(values["classes"]) == 2):
        raise ValueError("a threshold, and not two classes")
    if shifted and (asked or len(values["offset"]) != len(values["classes"])):
        raise ValueError("an offset that is not one of each class")
    if not asked and len(values["classes"]) < 2:
        raise ValueError("one class only")
    if not (values["inputs"] or numeric):
        raise ValueError("no inputs, and no numeric columns")
    if numeric > values["width"] or len({each["name"] for each in values.get("numeric", [])}) < numeric:
        raise ValueError("it has more numeric columns than features, or two of one name")
    return values


def _conformity(values: HeadDocument) -> tuple[float, ...] | None:
    found = values.get("conformity")
    if found is None:
        return None
    if "task" in values or (np.diff(found) < 0).any():
        raise ValueError("its conformity is not in order, or it is no head of classes")
    return tuple(found)


def _check_classes(head: Head, class_names: tuple[str, ...]) -> None:
    classes = head.classes_
    if (np.diff(classes) <= 0).any():
        raise ValueError("its classes are no ascending list")
    if head.link_ is not None and not np.array_equal(classes, np.arange(len(class_names))):
        raise ValueError("its classes are not its labels, or its number")
    if why := head.unfit_for(head.task_):
        raise ValueError(why)
    if classes[-1] >= len(class_names) or len(set(class_names)) < len(class_names):
        raise ValueError("its classes do not fit its class names")

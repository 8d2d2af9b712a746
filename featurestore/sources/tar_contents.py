"""What one ``.tar`` says of its images: which there are, and what stands beside them."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from featurestore.images.decode import IMAGE_SUFFIXES, MAX_BYTES
from featurestore.sources.labels import MAX_IMAGES
from featurestore.sources.samples import Failure
from featurestore.sources.split_names import split_of
from featurestore.sources.tar_members import FOLDERS, Member, TarError, TarMembers
from featurestore.system import documents
from featurestore.system.files import size_text, why

_TEXT_LIMIT, _JSON_LIMIT = 4096, 2**20
_LABEL_KEYS = ("label", "cls", "class", "class_name", "category", "target")
_SPLIT_KEYS = ("split", "subset", "partition")


class Told(NamedTuple):
    """What stands beside an image: its class, split and group; "" for what is not said."""

    label: str = ""
    split: str = ""
    group: str = ""


@dataclass
class TarContents:
    """The images of a tar, and what is told of them.

    Attributes:
        images: in the order of the tar.
        told: by the key of an image.
        failures, skipped: see :class:`featurestore.sources.samples.Dataset`; without the name of the tar.
    """

    images: list[Member] = field(default_factory=list)
    told: dict[str, Told] = field(default_factory=dict)
    failures: list[Failure] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)


def key_of(name: str) -> str:
    """Return what the members of one sample share: a path up to the first dot of the last name.

    Example:
        >>> key_of("cats.d/0001.seg.png")
        'cats.d/0001'
    """
    folder, slash, file = name.rpartition("/")
    return folder + slash + file.partition(".")[0]


def read_tar(members: TarMembers, columns: Sequence[str | None]) -> TarContents:
    """Read what a tar holds. Of one that is damaged, what came before the damage counts, and the damage is a failure.

    Args:
        members: of the tar.
        columns: keys in ``.json`` members of label, split and group; None to look for the usual ones, but for groups.
    """
    found = TarContents()
    seen: set[str] = set()
    try:
        for member in members:
            if member.other == FOLDERS:
                continue
            if reason := _passed_over(member):
                found.skipped[reason] += 1
                continue
            name = member.name.removeprefix("./").lstrip("/")
            if name in seen:
                found.failures.append(Failure(path=name, reason="a second member of this name: the first one counts"))
            else:
                seen.add(name)
                _take(member._replace(name=name), members, columns, found)
            if len(seen) > MAX_IMAGES:
                raise TarError(f"more than {MAX_IMAGES:,} members, too many for the memory of this machine: divide it")
    except TarError as error:
        found.failures.append(Failure(path="", reason=f"{error}; {len(found.images)} images before are used"))
    except OSError as error:
        found.failures.append(Failure(path="", reason=f"{why(error)}; {len(found.images)} images before are used"))
    if found.told:
        _one_each(found)
    return found


def _passed_over(member: Member) -> str:
    """Return why a member does not count; "" for one that does."""
    last = member.name.rpartition("/")[2]
    if member.other:
        return member.other
    if last.startswith(".") or member.name.startswith("__MACOSX/"):
        return "hidden"
    suffix = _suffix(last)
    if suffix in IMAGE_SUFFIXES or suffix in (".cls", ".json"):
        return ""
    return f"with suffix {suffix}" if suffix else "without a suffix"


def _suffix(last: str) -> str:
    _, dot, end = last.rpartition(".")
    return (dot + end).lower() if dot else ""


def _take(member: Member, members: TarMembers, columns: Sequence[str | None], found: TarContents) -> None:
    suffix = _suffix(member.name)
    if suffix in IMAGE_SUFFIXES:
        if member.size > MAX_BYTES:
            found.failures.append(Failure(path=member.name, reason=f"larger than {size_text(MAX_BYTES)}"))
        else:
            found.images.append(member)
        return
    try:
        if suffix == ".cls":
            told = Told(label=_label(_text(members, member, _TEXT_LIMIT)))
        else:
            told = _from_json(_text(members, member, _JSON_LIMIT), columns)
    except ValueError as error:
        found.failures.append(Failure(path=member.name, reason=str(error)))
        return
    key = key_of(member.name)
    before = found.told.get(key, Told())
    # What a .cls says comes before what a .json says.
    first, second = (told, before) if suffix == ".cls" else (before, told)
    merged = Told(*(one or other for one, other in zip(first, second, strict=True)))
    if any(merged):
        found.told[key] = merged


def _one_each(found: TarContents) -> None:
    """Leave the first image of each key: the others are masks, or further views of one sample."""
    keys: set[str] = set()
    images = []
    for member in found.images:
        if (key := key_of(member.name)) in keys:
            found.skipped["further images of a sample"] += 1
        else:
            keys.add(key)
            images.append(member)
    found.images = images


def _text(members: TarMembers, member: Member, limit: int) -> bytes:
    if member.size > limit:
        raise ValueError(f"{size_text(member.size)}, where a label is expected")
    return members.read(member.start, member.size)


def _label(raw: bytes) -> str:
    text = raw.decode("utf-8", "surrogateescape").strip(" \t\r\n\0")
    if not text or "\n" in text or "\0" in text:
        raise ValueError("not one label" if text else "no label in it")
    return text


def _from_json(raw: bytes, columns: Sequence[str | None]) -> Told:
    document = documents.parse(raw, dict[str, Any])
    label, split, group = (
        _value(document, (chosen,) if chosen else usual)
        for chosen, usual in zip(columns, (_LABEL_KEYS, _SPLIT_KEYS, ()), strict=True)
    )
    if split and not split_of(split):
        raise ValueError(f"unknown split {split[:80]!r}")
    return Told(label, split_of(split) or "" if split else "", group)


def _value(document: dict[str, Any], keys: Sequence[str]) -> str:
    for key in keys:
        value = document.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | str):
            raise ValueError(f"{key} is {str(value)[:80]!r}, not a whole number or a text")
        return _label(str(value).encode("utf-8", "surrogateescape")) if value != "" else ""
    return ""

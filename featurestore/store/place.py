"""Where a store is: a folder, or an address such as ``s3://bucket/features`` with a folder here for what is under way.

What a run needs of a store at an address is copied here before it is looked at, and what it has written is copied there
when it is finished: feature files whole, the index of their folder last. Journals stay here, in
``$XDG_CACHE_HOME/featurestore/stores``. Nothing locks a store at an address against another machine: two that compute
the same file write the same bytes.
"""

import hashlib
import json
import os
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from featurestore.errors import AddressError, StoreError
from featurestore.system import documents
from featurestore.system.addresses import GoneError, check_address, is_address
from featurestore.system.files import write_whole
from featurestore.system.stamps import stamp
from featurestore.system.transfer import Downloads
from featurestore.system.user_cache import cache_folder

_LARGEST = 2**40
"""Bytes of the largest file that is copied here."""
_NOTE = ".there"
"""End of the name of a note beside a copy: what the server said of the file, and the stamp of the copy."""
_servers = cache(Downloads)


@dataclass(frozen=True)
class Place:
    """A store.

    Attributes:
        folder: of this machine.
        address: without a slash at its end; "" where the folder is the store.
    """

    folder: Path
    address: str = ""

    @classmethod
    def of(cls, store: str | os.PathLike[str]) -> "Place":
        """Return the place that a user means by a path or an address.

        Raises:
            StoreError: an address at which nothing can be written, or may be asked.
        """
        text = os.fspath(store)
        if not is_address(text):
            return cls(Path(text))
        check_address(text)
        if text.startswith("http"):
            raise StoreError(f"{text}: nothing can be written there: give --store a folder, or s3://…")
        text = text.rstrip("/")
        return cls(cache_folder() / "stores" / hashlib.sha256(text.encode()).hexdigest()[:32], text)

    @property
    def name(self) -> str:
        """What tasks on other machines find the store by."""
        return self.address or str(self.folder.absolute())

    def address_of(self, path: Path) -> str:
        """Return the address of a file, or folder, whose copy is at a path."""
        return f"{self.address}/{path.relative_to(self.folder).as_posix()}"

    def pull(self, path: Path) -> None:
        """Make the file at a path the one that is at the store's address. Without one there it stays as it is.

        Raises:
            AddressError: it cannot be had.
        """
        if not self.address:
            return
        address = self.address_of(path)
        try:
            version = _servers().look(address)[1]
            if not self._same(path, version):
                path.parent.mkdir(parents=True, exist_ok=True)
                draft = path.with_name(f"{path.name}.pulled")
                version = _servers().get(address, draft, _LARGEST)
                draft.replace(path)
                self._note(path, version)
        except GoneError:
            return
        except AddressError as error:
            raise type(error)(f"{address}: cannot be had ({error}): check the address and your rights") from error

    def push(self, path: Path) -> None:
        """Copy a file to the store's address, unless it is there.

        Raises:
            AddressError: it cannot be written; it stays here.
        """
        if not self.address:
            return
        address = self.address_of(path)
        try:
            with suppress(GoneError):
                if self._same(path, _servers().look(address)[1]):
                    return
            self._note(path, _servers().put(path, address))
        except AddressError as error:
            raise type(error)(
                f"{address}: cannot be written ({error}): what is finished is kept here; check your rights, and run "
                "the same command again"
            ) from error

    def _same(self, path: Path, version: bytes) -> bool:
        """Tell whether nothing has changed, here and there, since a copy was made."""
        with suppress(OSError, ValueError):
            known = documents.read(_note_of(path), dict[str, str])
            return bool(version) and known == {"there": version.hex(), "here": stamp(path).hex()}
        return False

    def _note(self, path: Path, version: bytes) -> None:
        write_whole(_note_of(path), json.dumps({"there": version.hex(), "here": stamp(path).hex()}).encode())


def _note_of(path: Path) -> Path:
    return path.with_name(f".{path.name}{_NOTE}")

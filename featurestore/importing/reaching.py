"""What the hub of Hugging Face says: errors of the libraries that load from it, in one line each, and commits."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from featurestore.errors import BackboneError, FeatureStoreError, WeightsError, one_line

_REASONS = {
    "GatedRepoError": (
        "its owner gives it only to those who accept its licence: do that on its page, and set HF_TOKEN to a token of "
        "your account; or download it to a folder, and pass hf:FOLDER"
    ),
    "RepositoryNotFoundError": (
        "there is no such repository, or it is private: check its name, or set HF_TOKEN to a token of your account"
    ),
    "RevisionNotFoundError": "the repository has no such revision: check what follows the @",
}
_UNREACHABLE = (
    "it cannot be reached ({}): check the connection; or download it on another machine, and pass hf:FOLDER, or "
    "--weights FILE for timm"
)
_CONNECTION = ("OfflineModeIsEnabled", "ConnectError", "ConnectTimeout", "ReadTimeout", "ProxyError", "URLError",
               "LocalEntryNotFoundError", "ConnectionError")  # fmt: skip
"""Classes of huggingface_hub, its HTTP clients and Python that say so, from the most telling on."""


@contextmanager
def loading(origin: str) -> Iterator[None]:
    """Make one error of whatever a library raises in the block.

    Args:
        origin: what is loaded, as the user named it.

    Raises:
        WeightsError: it cannot be had.
        BackboneError: it cannot be used.
    """
    try:
        yield
    except FeatureStoreError:
        raise
    except Exception as error:  # libraries fail in whatever way they do
        causes = {type(each).__name__: each for each in _chain(error)}
        for name, reason in _REASONS.items():
            if name in causes:
                raise WeightsError(f"{origin}: {reason}") from error
        for name in _CONNECTION:
            if name in causes:
                raise WeightsError(f"{origin}: {_UNREACHABLE.format(one_line(str(causes[name])) or name)}") from error
        if "trust_remote_code" in str(error):
            raise BackboneError(
                f"{origin}: it comes with code of its own, which is never run: take a network that transformers has"
            ) from error
        reason = one_line(error) or type(error).__name__
        raise BackboneError(
            f"{origin}: it cannot be used ({reason}): choose another network, or other --weights"
        ) from error


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    """Give an error and those that led to it."""
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def commit_of(repository: str, files: Iterable[str], revision: str | None = None) -> str | None:
    """Return the commit of a repository that a file, one of `files`, was fetched from; None if none was."""
    from huggingface_hub import constants, try_to_load_from_cache

    for file in files:
        path = try_to_load_from_cache(repository, file, cache_dir=constants.HF_HUB_CACHE, revision=revision)
        if isinstance(path, str):
            return Path(path).parent.name
    return None


def hide_progress() -> None:
    """Show no bars while files are fetched."""
    from huggingface_hub.utils import disable_progress_bars

    disable_progress_bars()

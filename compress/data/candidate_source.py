"""Where the candidates of a reranker's queries come from: a run file, or something above this package that writes one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from compress.core import digests
from compress.data.beir import BeirSources
from compress.data.collection import Collection
from compress.data.tables import existing_file


class CandidateSource(Protocol):
    """A run file, which may be written only when it is needed."""

    @property
    def where(self) -> str:
        """What messages call it."""
        ...

    @property
    def complete(self) -> bool:
        """Whether every query has candidates, which is known before they are searched."""
        ...

    def file(self, sources: BeirSources, queries: Collection, corpus: Collection) -> str:
        """Return the path of the run file, in TREC's format."""
        ...

    def digest(self, sources: BeirSources) -> str:
        """Return a digest that changes with the candidates; nothing is searched for it."""
        ...


@dataclass(frozen=True)
class RunFile:
    """A run file that exists."""

    path: str

    @property
    def where(self) -> str:
        """What messages call it."""
        return self.path

    @property
    def complete(self) -> bool:
        """A file may leave queries out."""
        return False

    def file(self, sources: BeirSources, queries: Collection, corpus: Collection) -> str:
        """Return its path."""
        return self.path

    def digest(self, sources: BeirSources) -> str:
        """Return the digest of its contents."""
        return digests.digest_file(existing_file(self.path))

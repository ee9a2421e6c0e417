"""Pages of a list: what an actor, a limit and a cursor answer, encoded."""

from __future__ import annotations

from base64 import b32decode, b32encode
from binascii import Error as Base32Error
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from zlib import crc32

import orjson

from etl.demo.bulk import Bulk, bulk
from etl.demo.graph import ACTORS, Kind, members
from etl.demo.people import profile, subject


@dataclass(frozen=True)
class _Day:
    """A list of the graph on a day; its rows are encoded when first asked for."""

    subject: bytes
    people: tuple[int, ...]
    day: date

    @property
    def size(self) -> int:
        return len(self.people)

    def rows(self, start: int, stop: int) -> Sequence[bytes]:
        return [_row(person, self.day) for person in self.people[start:stop]]


@dataclass(frozen=True)
class Page:
    """One page of an actor's list before encoding; it starts at `offset`.

    `cursor` None means there is no such key, or with `says_null` that it has no value.
    """

    actor: str
    kind: Kind
    offset: int
    subject: bytes
    rows: Sequence[bytes]
    cursor: str | None
    says_null: bool = False
    headers: Mapping[str, str] = field(default_factory=dict)
    first_field: str = field(default="handle", init=False)

    @property
    def list_field(self) -> str:
        """The key of the rows."""
        return self.kind

    def encode(self) -> bytes:
        """The response body, UTF-8."""
        tail = b"]}" if self.cursor is None else f'],"cursor":"{self.cursor}"}}'.encode()
        if self.says_null:
            tail = b'],"cursor":null}'
        head = b'{"subject":' + self.subject + f',"{self.kind}":['.encode()
        return head + b",".join(self.rows) + tail

    def with_rows(self, rows: Sequence[bytes]) -> Page:
        """The same page with other rows."""
        return replace(self, rows=rows)

    def ended(self, *, null: bool = False) -> Page:
        """The page as if it were the last one; with `null` its cursor is there without a value."""
        return replace(self, cursor=None, says_null=null)

    def led_back(self, *, again: bool) -> Page:
        """The page with a cursor that leads back to it; `again` marks that cursor."""
        return replace(
            self, cursor=encode_cursor(self.actor, self.kind, Position(self.offset, again))
        )


@dataclass(frozen=True)
class Position:
    """Where a cursor stands; `again` marks one that an empty page handed out."""

    offset: int
    again: bool = False


_BY_DID = {str(subject(actor)["did"]): actor for actor in ACTORS}


def resolve(actor: str) -> str:
    """The handle of an actor given by handle or DID; unknown ones come back in lower case."""
    return _BY_DID.get(actor, actor.lower())


@lru_cache(maxsize=256)
def listing(actor: str, kind: Kind, day: date) -> Bulk | _Day | None:
    """The list of `actor` (a handle) on `day`, None when there is no such actor."""
    if actor not in ACTORS:
        return bulk(actor, kind)
    return _Day(orjson.dumps(subject(actor)), members(actor, kind, day), day)


def cut(source: Bulk | _Day, actor: str, kind: Kind, offset: int, limit: int) -> Page:
    """The page of at most `limit` rows that starts at `offset`; the last one has no cursor."""
    end = offset + limit
    cursor = encode_cursor(actor, kind, Position(end)) if end < source.size else None
    return Page(actor, kind, offset, source.subject, source.rows(offset, end), cursor)


def encode_cursor(actor: str, kind: Kind, position: Position) -> str:
    """13 base32 characters that only this list takes back."""
    payload = (position.offset * 2 + position.again).to_bytes(5, "big")
    return b32encode(_seal(actor, kind, payload) + payload).decode().lower().rstrip("=")


def decode_cursor(actor: str, kind: Kind, cursor: str) -> Position:
    """Where `cursor` stands. Raises ValueError when it is not one of this list's."""
    try:
        raw = b32decode(f"{cursor.upper()}===")
    except Base32Error as e:
        raise ValueError("Malformed cursor") from e
    seal, payload = raw[:3], raw[3:]
    if seal != _seal(actor, kind, payload):
        raise ValueError("Malformed cursor")
    offset, again = divmod(int.from_bytes(payload, "big"), 2)
    return Position(offset, bool(again))


@lru_cache(maxsize=16_384)
def _row(person: int, day: date) -> bytes:
    return orjson.dumps(profile(person, day))


def _seal(actor: str, kind: Kind, payload: bytes) -> bytes:
    return crc32(f"{actor}/{kind}/".encode() + payload).to_bytes(4, "big")[:3]

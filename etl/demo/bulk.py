"""Actors of any size for load: `bulk-<N>.test` has N followers and N follows, made per page."""

from __future__ import annotations

import json
import re
from base64 import b32encode
from dataclasses import dataclass
from typing import Final

from etl.demo.dice import base32
from etl.demo.graph import Kind
from etl.demo.people import subject

_ACTOR: Final = re.compile(r"bulk-(\d{1,8})(?:-[a-z0-9]{1,20})?\.test")
_TEXT: Final = 'Blitz, \\"mostly\\" at night ♟️ أهلا\\nFide 1850'


@dataclass(frozen=True)
class Bulk:
    """One list of a bulk actor; half of the follows are followers as well."""

    subject: bytes
    size: int
    chain: str
    first: int

    def rows(self, start: int, stop: int) -> list[bytes]:
        """The encoded profiles from `start` up to `stop`, some 580 bytes each."""
        return [self._row(self.first + number) for number in range(start, min(stop, self.size))]

    def _row(self, number: int) -> bytes:
        tail = b32encode((number * 0x9E3779B97F % 2**40).to_bytes(5, "big")).decode().lower()
        did = f"did:plc:{self.chain}{tail}"
        minute = f"2025-03-{1 + number % 28:02}T{number % 24:02}:{number % 60:02}:{number % 59:02}"
        return (
            f'{{"did":"{did}","handle":"p{number:x}.{self.chain}.test",'
            f'"displayName":"Nº {number} ♞",'
            f'"avatar":"https://cdn.bsky.app/img/avatar/plain/{did}/bafkrei{tail}",'
            f'"viewer":{{"muted":false,"blockedBy":false}},'
            f'"labels":[{{"src":"{did}","uri":"at://{did}/app.bsky.actor.profile/self",'
            f'"val":"!no-unauthenticated","cts":"{minute}.000Z"}}],'
            f'"createdAt":"{minute}.123Z","description":"{_TEXT}","indexedAt":"{minute}.456Z"}}'
        ).encode()


def bulk(actor: str, kind: Kind) -> Bulk | None:
    """The list of a bulk actor, None when the name is not one's."""
    named = _ACTOR.fullmatch(actor)
    if named is None:
        return None
    size = int(named[1])
    own = json.dumps(subject(actor), ensure_ascii=False).encode()
    return Bulk(own, size, base32(f"chain:{actor}", 16), 0 if kind == "followers" else size // 2)

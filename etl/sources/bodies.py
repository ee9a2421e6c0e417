"""Bodies of an API's answers: JSON read once and to the last digit; what no JSON is, told."""

from __future__ import annotations

import codecs
import json
import weakref
from contextlib import suppress
from decimal import Decimal
from http import HTTPStatus
from typing import Any

import orjson
from dlt.common.json import may_have_pua
from dlt.sources.helpers.rest_client.detector import find_response_page_data
from requests import Response

from etl.errors import ExtractError
from etl.raw.places import place_of
from etl.secrets import safe_url

# Every digit as 0, all else as a blank: to look for a long number in a page costs next to nothing.
DIGITS = bytes(ord("0") if chr(b) in "0123456789" else ord(" ") for b in range(256))
LONG_NUMBER = b"0" * 20
_NOT_YET = object()

NO_JSON_HINT = (
    "ask the URL yourself: did a proxy answer, or a log-in page, or was the answer cut off? what "
    "is no JSON, such as CSV, is read by a `factory` (docs/apis.md)"
)
NOTHING_HINT = (
    "where 204 means that there is nothing, or nothing more, the endpoint says so: "
    "`response_actions: [{status_code: 204, action: ignore}]`"
)


def parse_json(content: bytes) -> Any:
    """The JSON of a body, which may begin with a byte order mark.

    orjson makes floats of integers beyond 64 bits, and two long ids may become one: where a body
    has that many digits in a row, the standard library reads it, to the last digit. They become
    decimals: dlt passes no longer integers on.

    Raises:
        orjson.JSONDecodeError: it is none.
    """
    parsed = orjson.loads(content.removeprefix(codecs.BOM_UTF8))
    if LONG_NUMBER not in content.translate(DIGITS):
        return parsed
    return json.loads(content, parse_int=lambda text: _exact(int(text)))


def may_hold_marks(content: bytes) -> bool:
    """Whether a body may hold a text that dlt takes for another type (`etl.raw.coercions`)."""
    return may_have_pua(content) or b"\\uf02" in content or b"\\uF02" in content


def _exact(number: int) -> int | Decimal:
    return number if number.bit_length() < 64 else Decimal(number)


class JsonOnce:
    """A response's JSON, parsed at the first call and kept."""

    def __init__(self, response: Response) -> None:
        # Weak, for the response holds this: a circle would keep pages and connections in memory.
        self._response = weakref.proxy(response)
        self._parsed: Any = _NOT_YET

    def __call__(self, **_: Any) -> Any:
        if self._parsed is _NOT_YET:
            content = self._response.content
            try:
                self._parsed = parse_json(content)
            except orjson.JSONDecodeError as e:
                kind = self._response.headers.get("content-type", "no content type")
                raise ExtractError(
                    f"{place_of(self._response.request)}the answer is no JSON ({kind}, "
                    f"{len(content)} bytes, stops making sense at byte {e.pos}) "
                    f"({safe_url(self._response.url)})",
                    hint=NOTHING_HINT
                    if self._response.status_code == HTTPStatus.NO_CONTENT
                    else NO_JSON_HINT,
                ) from None
        return self._parsed


def has_rows(response: Response) -> bool:
    """Whether a body is, or holds, a list with something in it."""
    with suppress(ValueError):
        found = find_response_page_data(parse_json(response.content))[1]
        return isinstance(found, list) and bool(found)
    return False

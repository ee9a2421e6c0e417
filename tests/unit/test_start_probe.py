"""One request, and what its failures are called; bounded in time and size."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import requests
import responses

from etl.errors import AuthError, ExtractError, UnreachableError
from etl.start import probe
from etl.start.probe import Address, ask, read_address

URL = "https://api.example.com/v1/teas"


@responses.activate
def test_the_answer_comes_with_all_that_a_guess_needs() -> None:
    responses.get(
        URL, json=[{"id": 1}], headers={"Link": f'<{URL}?page=2>; rel="next"', "X-N": "7"}
    )
    answer = ask(read_address(f"{URL}?page=1&empty=#part", {}), "ETL_X_")
    assert (answer.url, answer.body) == (URL, [{"id": 1}])
    assert answer.params == {"page": "1", "empty": ""}
    assert answer.links == {"next": f"{URL}?page=2"}
    assert answer.headers["x-n"] == "7"
    assert len(responses.calls) == 1


@responses.activate
@pytest.mark.parametrize(
    "body",
    [
        requests.ConnectTimeout(),
        requests.ReadTimeout(),
        requests.ConnectionError("refused"),
        requests.exceptions.SSLError("expired"),
        requests.TooManyRedirects(),
        requests.exceptions.ChunkedEncodingError(),
    ],
)
def test_what_cannot_be_reached_is_code_4(body: Exception) -> None:
    responses.get(URL, body=body)
    with pytest.raises(UnreachableError, match=r"api\.example\.com/v1/teas"):
        ask(Address(URL), "ETL_X_")


@responses.activate
def test_rejected_credentials_name_the_variables_that_give_them() -> None:
    responses.get(URL, status=401)
    with pytest.raises(AuthError) as raised:
        ask(Address(URL), "ETL_SOURCES__SHOP__CLIENT__AUTH__")
    assert "ETL_SOURCES__SHOP__CLIENT__AUTH__TOKEN" in raised.value.hint


@responses.activate
def test_a_limit_that_is_used_up_asks_for_no_credentials() -> None:
    responses.get(URL, status=403, headers={"x-ratelimit-remaining": "0"})
    with pytest.raises(UnreachableError, match="403"):
        ask(Address(URL), "ETL_X_")


@responses.activate
def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    responses.get(URL, body=b"[" + b"1," * 500 + b"1]")
    monkeypatch.setattr(probe, "MAX_BYTES", 100)
    with pytest.raises(ExtractError, match="more than 100 bytes"):
        ask(Address(URL), "ETL_X_")


@responses.activate
def test_an_answer_that_drips_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Clock:
        monotonic = itertools.count(0, probe.WHOLE_SECONDS).__next__

    responses.get(URL, body=b"1" * 200_000)
    monkeypatch.setattr(probe, "time", Clock)
    with pytest.raises(UnreachableError, match="more than 60 seconds"):
        ask(Address(URL), "ETL_X_")


@responses.activate
@pytest.mark.parametrize(
    ("to", "base"),
    [("https://api.example.com/v2/teas", "https://api.example.com/v2/teas"),
     ("https://elsewhere.example.org/teas", URL)],
)  # fmt: skip
def test_a_redirect_is_followed_and_the_host_stays(to: str, base: str) -> None:
    responses.get(URL, status=302, headers={"Location": to})
    responses.get(to, json=[])
    assert ask(Address(URL), "ETL_X_").url == base


@pytest.mark.parametrize(
    ("text", "auth", "params"),
    [
        ("https://x.org/a?api_key=abc&b=1", {"type": "api_key", "name": "api_key",
                                             "location": "query"}, {"b": "1"}),
        ("https://ann:p%40ss@x.org/a", {"type": "http_basic"}, {}),
        ("https://x.org/a?pageToken=t0", {}, {"pageToken": "t0"}),
        ("https://[::1]:8080/a", {}, {}),
    ],
)  # fmt: skip
def test_secrets_of_a_url_are_kept_apart(text: str, auth: Any, params: Any) -> None:
    address = read_address(text, {})
    assert (address.auth, address.params) == (auth, params)
    assert "@" not in address.url
    assert "?" not in address.url
    if auth.get("type") == "http_basic":
        assert address.secrets == {"username": "ann", "password": "p@ss"}

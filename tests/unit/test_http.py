"""The session: what it tries again, how long it waits, what it counts; APIs are mocked."""

from __future__ import annotations

from collections.abc import Iterator
from email.utils import formatdate
from typing import Any

import pytest
import responses
from requests import HTTPError, Request, Response
from requests.exceptions import ConnectionError as RequestsConnectionError

from etl.errors import ExtractError
from etl.raw.places import Place, mark_place
from etl.sources.http import ApiSession
from etl.sources.limiter import RateLimiter

URL = "https://api.test/things"
NOW = 1_767_355_200.0


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock() as mock:
        yield mock


class Waiting:
    """A session whose waits are noted and move its clock; nothing sleeps."""

    def __init__(self, attempts: int = 5) -> None:
        self.waits: list[float] = []
        self.now = 0.0
        limiter = RateLimiter(
            None, 0.0, wait=self.wait, clock=lambda: self.now, wall_clock=lambda: NOW
        )
        self.session = ApiSession(
            limiter, attempts=attempts, timeout=3, wait=self.wait, wall_clock=lambda: NOW
        )
        self.session.homes = (URL,)

    def wait(self, seconds: float) -> None:
        self.waits.append(seconds)
        self.now += seconds

    def get(self) -> Response:
        request = Request("GET", URL)
        mark_place(request, Place("things", 4))
        response: Response = self.session.send(self.session.prepare_request(request))
        return response


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_busy_api_is_asked_again(api: responses.RequestsMock, status: int) -> None:
    api.get(URL, status=status)
    api.get(URL, status=status)
    api.get(URL, json=[1])
    client = Waiting()
    assert client.get().json() == [1]
    assert client.session.requests == {"things": 3}
    assert client.session.retries == {"things": 2}
    assert 0.375 <= client.waits[0] <= 0.625
    assert 0.75 <= client.waits[1] <= 1.25


@pytest.mark.parametrize(
    ("headers", "waits"),
    [
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": str(int(NOW) + 12)}, 12.0),
        ({"Retry-After": "7"}, 7.0),
    ],
)
def test_403_of_a_limit_that_is_used_up_is_asked_again(
    api: responses.RequestsMock, headers: dict[str, str], waits: float
) -> None:
    api.get(URL, status=403, headers=headers)
    api.get(URL, json=[1])
    client = Waiting()
    assert client.get().json() == [1]
    assert client.now == pytest.approx(waits, abs=0.7)


@pytest.mark.parametrize("status", [400, 401, 403, 404, 410, 422])
def test_refusal_is_final(api: responses.RequestsMock, status: int) -> None:
    api.get(URL, status=status)
    client = Waiting()
    assert client.get().status_code == status
    assert len(api.calls) == 1


def test_busy_api_is_given_up_after_the_last_try(api: responses.RequestsMock) -> None:
    api.get(URL, status=503)
    client = Waiting(attempts=4)
    assert client.get().status_code == 503
    assert len(api.calls) == 4


def test_unreachable_api_is_tried_three_times_and_named(api: responses.RequestsMock) -> None:
    api.get(URL, body=RequestsConnectionError("gone"))
    client = Waiting()
    with pytest.raises(RequestsConnectionError) as caught:
        client.get()
    assert len(api.calls) == 3
    assert caught.value.request is not None
    assert caught.value.request.url == URL


@pytest.mark.parametrize("value", ["7", formatdate(NOW + 7, usegmt=True)])
@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_obeyed(api: responses.RequestsMock, status: int, value: str) -> None:
    api.get(URL, status=status, headers={"Retry-After": value})
    api.get(URL, json=[])
    client = Waiting()
    client.get()
    assert client.now == 7.0


def test_retry_after_of_hours_is_not_waited_for(api: responses.RequestsMock) -> None:
    api.get(URL, status=429, headers={"Retry-After": "7200"})
    client = Waiting()
    assert client.get().status_code == 429
    assert client.waits == []


def test_ratelimit_headers_hold_the_next_request(api: responses.RequestsMock) -> None:
    api.get(URL, json=[], headers={"RateLimit-Remaining": "0", "RateLimit-Reset": "30"})
    client = Waiting()
    client.get()
    client.get()
    assert client.now == 30.0


def test_json_is_parsed_once(api: responses.RequestsMock) -> None:
    api.get(URL, json={"a": [1]})
    response = Waiting().get()
    assert response.json() is response.json()


def test_answer_that_is_no_json_is_named(api: responses.RequestsMock) -> None:
    api.get(URL, body="<html>", content_type="text/html")
    with pytest.raises(ExtractError, match=r"things, page 4: the answer is no JSON \(text/html"):
        Waiting().get().json()


def test_secret_parameters_stay_out_of_the_message(api: responses.RequestsMock) -> None:
    api.get(URL, body="{")
    client = Waiting()
    request = client.session.prepare_request(Request("GET", URL, params={"token": "s3cret"}))
    with pytest.raises(ExtractError) as caught:
        client.session.send(request).json()
    assert "s3cret" not in caught.value.message


def test_status_is_raised_by_whoever_wants_it_raised(api: responses.RequestsMock) -> None:
    """dlt's hook raises while the answer is handed over: that counts as an answer, too."""
    api.get(URL, status=503)
    api.get(URL, json=[])
    client = Waiting()

    def raising(response: Response, *_: Any, **__: Any) -> None:
        response.raise_for_status()

    request = Request("GET", URL, hooks={"response": [raising]})
    assert client.session.send(client.session.prepare_request(request)).json() == []
    api.get(URL, status=404)
    with pytest.raises(HTTPError):
        client.session.send(client.session.prepare_request(request))


def test_redirection_is_followed_within_the_limit(api: responses.RequestsMock) -> None:
    api.get(URL, status=301, headers={"Location": "/moved"})
    api.get("https://api.test/moved", status=503)
    api.get("https://api.test/moved", status=302, headers={"Location": "/there"})
    api.get("https://api.test/there", json=[1])
    client = Waiting()

    def wait(seconds: float) -> None:
        assert len(client.waits) < 20, "waits for its own slot"
        client.wait(seconds)

    client.session.limiter = RateLimiter(1, 10, wait=wait, clock=lambda: client.now)
    assert client.get().json() == [1]
    assert client.session.requests == {"things": 4}
    assert client.now >= 30


@pytest.mark.parametrize("header", ["Authorization", "X-Api-Key", "x-tenant", "Cookie"])
@pytest.mark.parametrize(
    ("place", "goes_along"),
    [("https://api.test/b", True), ("https://else.test/b", False), ("http://api.test/b", False)],
)
def test_headers_of_ours_go_to_no_other_host(
    api: responses.RequestsMock, header: str, place: str, goes_along: bool
) -> None:
    api.get(URL, status=302, headers={"Location": place})
    api.get(place, json=[1])
    session = Waiting().session
    session.send(session.prepare_request(Request("GET", URL, headers={header: "s3cret"})))
    sent = api.calls[1].request.headers
    assert (sent.get(header) == "s3cret") is (goes_along and header != "Cookie")
    assert sent["User-Agent"].startswith("dlt")


@pytest.mark.parametrize(
    "given",
    [
        {"auth": ("user", "s3cret")},
        {"headers": {"X-Api-Key": "s3cret"}},
        {"params": {"api_key": "s3cret"}},
        {"json": {"token": "s3cret"}},
        {"data": {"password": "s3cret"}},
    ],
    ids=lambda given: next(iter(given)),
)
@pytest.mark.parametrize(
    ("url", "sent_to"),
    [
        ("https://api.test:443/b", "https://api.test:443/b"),
        ("http://api.test/b", "https://api.test/b"),
        ("https://API.test/b", "https://api.test/b"),
        ("https://else.test/b", None),
        ("https://api.test.else.test/b", None),
        ("https://api.test@else.test/b", None),
        ("https://else.test\\@api.test/b", None),
        ("https://api.test:8443/b", None),
        ("http://api.test:8080/b", None),
    ],
)
def test_credentials_go_to_their_host_alone(
    api: responses.RequestsMock, given: dict[str, Any], url: str, sent_to: str | None
) -> None:
    session = Waiting().session
    request = Request("GET", url, **given)
    mark_place(request, Place("things", 2))
    if sent_to is None:
        with pytest.raises(ExtractError, match=r"things, page 2: .*https://api\.test") as caught:
            session.prepare_request(request)
        assert "s3cret" not in str(caught.value)
        return
    api.get(sent_to, json=[1])
    assert session.send(session.prepare_request(request)).json() == [1]


def test_request_without_credentials_may_go_anywhere(api: responses.RequestsMock) -> None:
    api.get("http://else.test/b", json=[1])
    session = Waiting().session
    request = Request("GET", "http://else.test/b", headers={"Accept": "*/*"}, params={"page": 2})
    assert session.send(session.prepare_request(request)).json() == [1]


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (b'[{"id": 123456789012345678901234567891}]', [{"id": 123456789012345678901234567891}]),
        (b"[-123456789012345678901]", [-123456789012345678901]),
        (b"[18446744073709551616, 18446744073709551615]", [2**64, 2**64 - 1]),
        (b'["12345678901234567890123", 1.12345678901234567890123]',
         ["12345678901234567890123", 1.1234567890123457]),
        (b'\xef\xbb\xbf[1, 12345678901234567890123]', [1, 12345678901234567890123]),
        ('\ufeff["é"]'.encode(), ["é"]),
    ],
)  # fmt: skip
def test_numbers_keep_every_digit(
    api: responses.RequestsMock, body: bytes, value: list[Any]
) -> None:
    api.get(URL, body=body)
    assert Waiting().get().json() == value

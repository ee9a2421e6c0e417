"""One API's HTTP session: rate limit, bounded retries, counters."""

from __future__ import annotations

import random
import re
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

import tenacity
from dlt.sources.helpers.requests.session import Session
from dlt.sources.helpers.rest_client.exceptions import IgnoreResponseException
from loguru import logger
from requests import HTTPError, PreparedRequest, Request, Response
from requests.adapters import HTTPAdapter

from etl.errors import ExtractError
from etl.raw.places import NOWHERE, UNREACHABLE, is_busy, place_of
from etl.secrets import safe_url
from etl.sources.bodies import JsonOnce, has_rows
from etl.sources.homes import PUBLIC_HEADERS, has_credentials, is_same_origin, keep_at_home
from etl.sources.limiter import RateLimiter, seconds_of
from etl.sources.tokens import Token

# A server that wants us to wait longer than this is unavailable for this run.
LONGEST_WAIT_SECONDS = 300.0
# A pause that is longer than this is told.
TOLD_WAIT_SECONDS = 10.0

# Statuses of an answer that may well mean that there is nothing.
NOTHING = {HTTPStatus.NO_CONTENT, HTTPStatus.NOT_FOUND, HTTPStatus.GONE}

_LINK = re.compile(r'<([^>]*)>((?:\s*;\s*[^=;,\s]+(?:\s*=\s*(?:"[^"]*"|[^";,\s]*))?)*)')
_LINK_PARAMETER = re.compile(r';\s*([^=;,\s]+)\s*=\s*(?:"([^"]*)"|([^";,\s]*))')


class ApiSession(Session):
    """dlt's session with our limits. One per source, shared by its threads.

    A request is tried `attempts` times while the API is busy (429, 5xx, a limit's 403), waiting as
    it asks with Retry-After or else exponentially; with a token of OAuth 2's that the API takes no
    more, once again with another one. An API that cannot be reached at all is tried three times:
    the stage's own retry goes on from there. `homes` are the addresses that may see credentials.
    """

    def __init__(
        self,
        limiter: RateLimiter,
        *,
        attempts: int,
        timeout: float,
        wait: Callable[[float], None],
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        super().__init__(timeout=timeout, raise_for_status=False)
        self.limiter = limiter
        self.attempts = attempts
        self.homes: tuple[str, ...] = ()
        self.requests: Counter[str] = Counter()
        self.retries: Counter[str] = Counter()
        self.ignored: Counter[tuple[str, int]] = Counter()
        self._counting = threading.Lock()
        self._wait = wait
        self._wall_clock = wall_clock
        adapter = HTTPAdapter(pool_maxsize=64)
        self.mount("http://", adapter)
        self.mount("https://", adapter)

    def prepare_request(self, request: Request) -> PreparedRequest:
        """As requests does, and the page's place goes along (see `mark_place`).

        Raises:
            ExtractError: it has credentials, and goes to another host than theirs.
        """
        prepared = super().prepare_request(request)
        vars(prepared)["place"] = vars(request).get("place", NOWHERE)
        vars(prepared)["token"] = request.auth if isinstance(request.auth, Token) else None
        # Before those of dlt's, of which one may ignore the answer and say nothing of it.
        prepared.hooks["response"].insert(0, _keep)
        if has_credentials(request):
            keep_at_home(prepared, self.homes)
        return prepared

    def rebuild_method(self, prepared_request: PreparedRequest, response: Response) -> None:
        """As requests does; a POST stays one, but where the API says to get the answer elsewhere.

        Raises:
            ExtractError: requests would send it as GET, as browsers do, and leave its body out.
        """
        super().rebuild_method(prepared_request, response)
        asked = response.request
        if prepared_request.method != asked.method and response.status_code != HTTPStatus.SEE_OTHER:
            raise ExtractError(
                f"{place_of(asked)}a {asked.method} is redirected "
                f"({response.status_code}) to {safe_url(prepared_request.url or '')}, where it "
                "would arrive without its body",
                hint="let `base_url` or the `path` name that address",
            )

    def rebuild_auth(self, prepared_request: PreparedRequest, response: Response) -> None:
        """As requests does for a redirected request; to another host no header of ours goes along.

        requests takes `Authorization` away only, and an API key may stand in any header.
        """
        super().rebuild_auth(prepared_request, response)  # type: ignore[no-untyped-call]
        vars(prepared_request)["place"] = place_of(response.request)
        if not is_same_origin(response.request.url or "", prepared_request.url or ""):
            for name in list(prepared_request.headers):
                if name.lower() not in PUBLIC_HEADERS:
                    del prepared_request.headers[name]

    def send(self, request: PreparedRequest, **kwargs: Any) -> Response:
        """Send within the limit, and again while that may help; a redirection is a request too.

        Raises:
            requests.HTTPError: 4xx, or 5xx and 429 after the last try.
            requests.ConnectionError, requests.Timeout: not reachable.
        """
        # Followed here: within a slot of the limiter each hop would wait for another one.
        follows = kwargs.pop("allow_redirects", True)
        kwargs.setdefault("timeout", self.timeout)
        retrying = tenacity.Retrying(
            stop=self._give_up,
            wait=self._pause,
            retry=tenacity.retry_any(
                tenacity.retry_if_exception(_may_pass),
                tenacity.retry_if_exception(_is_stale),
                tenacity.retry_if_result(is_busy),
            ),
            sleep=self._wait,
            before_sleep=self._note_retry,
            retry_error_callback=_last_outcome,
        )
        try:
            response: Response = retrying(self._send_once, request, allow_redirects=False, **kwargs)
            for hop in self.resolve_redirects(response, request, **kwargs) if follows else ():
                response = hop
        except UNREACHABLE as e:
            # A body that breaks off carries no request, and the failure has to name it.
            e.request = e.request or request
            raise
        return response

    def _send_once(self, request: PreparedRequest, **kwargs: Any) -> Response:
        with self.limiter.slot():
            with self._counting:
                self.requests[place_of(request).resource] += 1
            try:
                response: Response = super().send(request, **kwargs)  # type: ignore[no-untyped-call]
            except IgnoreResponseException as e:
                if place_of(request).is_promised:
                    raise ExtractError(
                        f"{place_of(request)}the API led to this page, and its answer is one "
                        "that `response_actions` ignores: all pages behind it would be passed over "
                        f"({safe_url(request.url or '')})",
                        hint="run again; is it how the API ends its pages? `response_actions` are "
                        "for answers to what the settings ask, not to what the API names",
                    ) from e
                self._note_ignored(request)
                raise
            except HTTPError as e:  # dlt's hook raises while the answer is handed over
                if e.response is not None:
                    self._learn(e.response)
                raise
        self._learn(response)
        if "Link" in response.headers:
            response.headers["Link"] = _plain_links(response.headers["Link"])
        # Selector, paginator and guard each ask for the JSON: parse it once.
        response.json = JsonOnce(response)  # type: ignore[method-assign]  # what dlt asks
        return response

    def _note_ignored(self, request: PreparedRequest) -> None:
        """Count an answer that is ignored, but for those that say that there is nothing."""
        answer = vars(request)["answer"]()
        if answer is None or answer.status_code in NOTHING or (answer.ok and not has_rows(answer)):
            return
        with self._counting:
            self.ignored[place_of(request).resource, answer.status_code] += 1

    def _learn(self, response: Response) -> None:
        if (delay := self.limiter.learn(response.headers)) > TOLD_WAIT_SECONDS:
            logger.bind(wait_s=round(delay), url=safe_url(response.url)).warning(
                "the API's limit is used up: no request until it begins anew"
            )
        if response.status_code in (403, 429, 503):
            pause = self._asked_pause(response)
            if pause is not None and pause <= LONGEST_WAIT_SECONDS:
                self.limiter.block(pause)

    def _asked_pause(self, response: Response) -> float | None:
        """The seconds that an answer asks to wait; None when it does not say."""
        return seconds_of(response.headers.get("Retry-After"), self._wall_clock())

    def _give_up(self, state: tenacity.RetryCallState) -> bool:
        response = _answer(state)
        if response is None:
            return state.attempt_number >= min(3, self.attempts)
        pause = self._asked_pause(response) or 0
        return state.attempt_number >= self.attempts or pause > LONGEST_WAIT_SECONDS

    def _pause(self, state: tenacity.RetryCallState) -> float:
        response = _answer(state)
        if response is not None and (pause := self._asked_pause(response)) is not None:
            return pause
        longest = min(30.0, 0.5 * 2.0 ** (state.attempt_number - 1))
        return longest * random.uniform(0.75, 1.25)  # noqa: S311

    def _note_retry(self, state: tenacity.RetryCallState) -> None:
        request: PreparedRequest = state.args[0]
        if state.outcome and _is_stale(state.outcome.exception()):
            vars(request).pop("token").renew(request)
        with self._counting:
            self.retries[place_of(request).resource] += 1
        response = _answer(state)
        error = state.outcome.exception() if state.outcome else None
        cause = f"HTTP {response.status_code}" if response is not None else type(error).__name__
        pause = round(state.next_action.sleep, 2) if state.next_action else 0
        logger.bind(
            cause=cause, attempt=state.attempt_number, wait_s=pause, url=safe_url(request.url or "")
        ).warning("request is tried again")


def _plain_links(header: str) -> str:
    """A Link header (RFC 8288) as requests can read it: one relation for a link, in small letters.

    It would find no next page in `rel="next last"`, `rel=Next`, or behind a `;` in an address.
    """
    links: dict[str, str] = {}
    for link in _LINK.finditer(header):
        for name, quoted, bare in _LINK_PARAMETER.findall(link[2]):
            if name.lower() == "rel":
                for relation in (quoted or bare).split():
                    for spelled in (relation.lower(), relation):
                        links.setdefault(spelled, link[1].replace(";", "%3B"))
    return ", ".join(f'<{url}>; rel="{name}"' for name, url in links.items()) or header


def _keep(response: Response, **_: Any) -> None:
    vars(response.request)["answer"] = weakref.ref(response)


def _answer(state: tenacity.RetryCallState) -> Response | None:
    if state.outcome is None:
        return None
    error = state.outcome.exception()
    if error is None:
        result = state.outcome.result()
        return result if isinstance(result, Response) else None
    return error.response if isinstance(error, HTTPError) else None


def _may_pass(error: BaseException) -> bool:
    if isinstance(error, HTTPError):
        return error.response is not None and is_busy(error.response)
    return isinstance(error, UNREACHABLE)


def _is_stale(error: BaseException | None) -> bool:
    """Whether the API takes a token no more that may have been good: once for a request."""
    if not isinstance(error, HTTPError) or error.response is None:
        return False
    token = vars(error.response.request).get("token")
    return token is not None and error.response.status_code == HTTPStatus.UNAUTHORIZED


def _last_outcome(state: tenacity.RetryCallState) -> Response:
    assert state.outcome is not None  # noqa: S101 - tenacity calls this after an outcome only
    result: Response = state.outcome.result()
    return result

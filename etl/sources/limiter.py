"""Keeps the requests of one API under its limit, and obeys what the API says of it."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

from etl.raw.places import limit_header


def seconds_of(header: str | None, now: float) -> float | None:
    """Seconds to wait from a `Retry-After` or `ratelimit-reset` value; None when unreadable.

    Both headers come as seconds from now, as an HTTP date, or as a Unix time (RFC 9110 10.2.3;
    the Unix time, some in milliseconds, is common practice for ratelimit-reset). `now` is Unix
    time in seconds.
    """
    if header is None:
        return None
    text = header.strip()
    try:
        value = float(text)
    except ValueError:
        try:
            return max(0.0, parsedate_to_datetime(text).timestamp() - now)
        except (ValueError, TypeError):
            return None
    if not 0 <= value < 1e15:  # not a number is neither
        return None
    if value > 1e11:  # else it is of the year 5000
        value /= 1000
    # A wait of thirty years is no wait: it is a point in time.
    return max(0.0, value - now) if value > 1e9 else value


class RateLimiter:
    """At most `requests` within any `seconds`, counted so that the server agrees.

    A slot is taken when a request is sent and comes back `seconds` after its *answer*: the server
    counted the request somewhere in between, so its window can never hold more than ours, however
    the latency varies. Thread-safe; `wait` sleeps (and ends early when the run is stopped).
    """

    def __init__(
        self,
        requests: int | None,
        seconds: float,
        *,
        wait: Callable[[float], None],
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._free = requests
        self._seconds = seconds
        self._returning: deque[float] = deque()
        self._in_flight = 0
        self._blocked_until = 0.0
        self._lock = threading.Lock()
        self._wait = wait
        self._clock = clock
        self._wall_clock = wall_clock

    def _delay(self) -> float:
        """0 when a request may be sent now (its slot is then taken), else seconds to wait."""
        with self._lock:
            now = self._clock()
            if now < self._blocked_until:
                return self._blocked_until - now
            if self._free is not None:
                while self._returning and self._returning[0] <= now:
                    self._returning.popleft()
                    self._free += 1
                if self._free <= 0:
                    return self._returning[0] - now if self._returning else 0.01
                self._free -= 1
            self._in_flight += 1
            return 0.0

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Wait for a free slot and hold it while the request is under way."""
        while (delay := self._delay()) > 0:
            self._wait(delay)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1
                if self._free is not None:
                    self._returning.append(self._clock() + self._seconds)

    def block(self, seconds: float) -> None:
        """Send nothing for so long."""
        with self._lock:
            self._blocked_until = max(self._blocked_until, self._clock() + seconds)

    def learn(self, headers: Mapping[str, str]) -> float:
        """Obey `ratelimit-remaining` and `ratelimit-reset` (also as x-ratelimit-…) of an answer.

        Returns for how many seconds nothing is sent therefore.
        """
        remaining, reset = limit_header(headers, "remaining"), limit_header(headers, "reset")
        if remaining is None or reset is None:
            return 0.0
        try:
            left = int(float(remaining))
        except ValueError:
            return 0.0
        delay = seconds_of(reset, self._wall_clock())
        # Requests of other chains may be on their way: the server will count them against this.
        if delay is None or left > max(0, self._in_flight - 1):
            return 0.0
        self.block(delay)
        return delay

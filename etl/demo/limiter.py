"""The rate limit of the replay: a fixed window, told in `ratelimit-*` headers as the API does."""

from __future__ import annotations

import math
import threading
import time
from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """Whether a request may pass, and what its answer says about the limit."""

    allowed: bool
    headers: dict[str, str]


class Limiter:
    """Counts requests in windows of `seconds`, the first request of each opening it.

    With `enforced` False it only tells the headers. Thread-safe.
    """

    def __init__(self, count: int, seconds: float, *, enforced: bool = True) -> None:
        if count < 1 or seconds <= 0:
            raise ValueError(f"rate limit must be at least 1 in more than 0 s: {count}/{seconds}")
        self._count, self._seconds, self._enforced = count, seconds, enforced
        self._lock = threading.Lock()
        self._ends, self._used, self._rejected = 0.0, 0, 0

    @property
    def rejected(self) -> int:
        """How many requests were refused so far."""
        return self._rejected

    def admit(self) -> Verdict:
        """Count one request."""
        with self._lock:
            now = time.monotonic()
            if now >= self._ends:
                self._ends, self._used = now + self._seconds, 0
            self._used += 1
            left, wait = self._count - self._used, self._ends - now
            allowed = left >= 0 or not self._enforced
            self._rejected += not allowed
        headers = {
            "ratelimit-limit": str(self._count),
            "ratelimit-remaining": str(max(left, 0)),
            "ratelimit-reset": str(math.ceil(time.time() + wait)),
            "ratelimit-policy": f"{self._count};w={self._seconds:g}",
        }
        if not allowed:
            headers["retry-after"] = str(math.ceil(wait))
        return Verdict(allowed, headers)

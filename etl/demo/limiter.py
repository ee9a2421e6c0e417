"""The rate limit of the replay: a fixed window, told in `ratelimit-*` headers as the API does."""

from __future__ import annotations

import math
import threading
import time


class Limiter:
    """Counts requests in windows of `seconds`, the first request of each opening it.

    With `enforced` False it only tells the headers. Thread-safe.
    """

    def __init__(self, count: int, seconds: float, *, enforced: bool = True) -> None:
        if count < 1 or seconds <= 0:
            raise ValueError(f"rate limit must be at least 1 in more than 0 s: {count}/{seconds}")
        self._count, self._seconds, self._enforced = count, seconds, enforced
        self._lock = threading.Lock()
        self._ends, self._used = 0.0, 0

    def admit(self) -> tuple[bool, dict[str, str]]:
        """Count one request: whether it may pass, and what its answer says about the limit."""
        with self._lock:
            now = time.monotonic()
            if now >= self._ends:
                self._ends, self._used = now + self._seconds, 0
            self._used += 1
            left, wait = self._count - self._used, self._ends - now
            allowed = left >= 0 or not self._enforced
        headers = {
            "ratelimit-limit": str(self._count),
            "ratelimit-remaining": str(max(left, 0)),
            "ratelimit-reset": str(math.ceil(time.time() + wait)),
            "ratelimit-policy": f"{self._count};w={self._seconds:g}",
        }
        if not allowed:
            headers["retry-after"] = str(math.ceil(wait))
        return allowed, headers

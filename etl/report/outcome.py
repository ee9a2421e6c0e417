"""Tells others how a run ended, in bounded time; what cannot be told is a warning, never a code."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.causes import causes
from etl.errors import EtlError
from etl.past_runs import past_runs
from etl.records import RunRecord
from etl.report.notification import about_refusal, about_run
from etl.runs import write_atomically
from etl.settings import Metrics, Notify, Settings, Traces

if TYPE_CHECKING:
    import requests

Redact = Callable[[str], str]


class Message(NamedTuple):
    """One request that tells something: what it is, how long it may take, and how it is sent."""

    what: str
    seconds: float
    send: Callable[[], None]


def tell_outcome(settings: Settings, record: RunRecord, redact: Redact) -> list[str]:
    """Tell metrics and spans of a finished run, and notify whom it concerns; what went wrong.

    Only of runs that publish: another environment or a dry run is a person's at a terminal.
    """
    if record.environment != "prod" or record.options.dry_run:
        return []
    warnings: list[str] = []
    messages: list[Message] = []
    if settings.textfile or settings.metrics.pushgateway:
        from etl.report.metrics import as_text, measure

        try:
            text = as_text(measure(settings, record), redact)
            if settings.metrics.pushgateway:
                messages.append(_push(settings.metrics, record.job, text))
            if settings.textfile:
                if not settings.textfile.parent.is_dir():  # nobody reads a folder that we make
                    raise FileNotFoundError(f"{settings.textfile.parent}: no such folder")
                write_atomically(settings.textfile, text)
        except (EtlError, OSError) as e:
            warnings.append(f"metrics: {e}")
    if settings.traces.endpoint:
        messages.append(_export(settings.traces, record, redact))
    if settings.notify.webhook:
        notice = about_run(settings, record, _run_before(settings, record))
        messages += [_notify(settings.notify, notice)] if notice else []
    return warnings + _send(messages)


def tell_refusal(settings: Settings, error: EtlError, redact: Redact) -> list[str]:
    """Notify that a run could not begin: another holds the lock, data_dir is not writable."""
    if settings.notify.webhook is None:
        return []
    notice = about_refusal(settings, error)
    clean = {k: redact(v) if isinstance(v, str) else v for k, v in notice.items()}
    return _send([_notify(settings.notify, clean)] if clean else [])


def _run_before(settings: Settings, record: RunRecord) -> RunRecord | None:
    runs = islice(past_runs(settings), 20)
    return next((r for r in runs if r.run_id < record.run_id and r.environment == "prod"), None)


def _push(metrics: Metrics, job: str, text: str) -> Message:
    from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4

    def send() -> None:
        # PUT: what the run before said of sources and models that are gone is gone as well.
        place = f"{str(metrics.pushgateway).rstrip('/')}/metrics/job/{job}"
        password = metrics.password.get_secret_value() if metrics.password else ""
        auth = (metrics.username, password) if metrics.username else None
        _request("PUT", place, text.encode(), CONTENT_TYPE_PLAIN_0_0_4, metrics, auth=auth)

    return Message("metrics: the Pushgateway", metrics.timeout_seconds, send)


def _export(traces: Traces, record: RunRecord, redact: Redact) -> Message:
    def send() -> None:
        try:
            from etl.report.traces import CONTENT_TYPE, as_otlp, count_refused
        except ModuleNotFoundError as e:
            raise _UntoldError("was not told: pip install 'etl-job[otel]'") from e
        keys = {name: value.get_secret_value() for name, value in traces.headers.items()}
        answer = _request(
            "POST", str(traces.endpoint), as_otlp(record, redact), CONTENT_TYPE, traces, keys
        )
        if refused := count_refused(answer.content):
            raise _UntoldError(f"answered {answer.status_code} and refused {refused} spans")

    return Message("traces: the collector", traces.timeout_seconds, send)


def _notify(notify: Notify, notice: dict[str, Any]) -> Message:
    def send() -> None:
        hook = notify.webhook.get_secret_value() if notify.webhook else ""
        _request("POST", hook, json.dumps(notice).encode(), "application/json", notify)

    return Message("notification: the webhook", notify.timeout_seconds, send)


class _UntoldError(Exception):
    """Why something was not told, in words without a secret."""


def _request(
    verb: str,
    url: str,
    body: bytes,
    content_type: str,
    place: Metrics | Traces | Notify,
    headers: Mapping[str, str] | None = None,
    auth: tuple[str, str] | None = None,
) -> requests.Response:
    import requests

    answer = requests.request(
        verb, url, data=body, headers={**(headers or {}), "Content-Type": content_type}, auth=auth,
        timeout=place.timeout_seconds, allow_redirects=False,
    )  # fmt: skip
    if not 200 <= answer.status_code < 300:
        raise _UntoldError(f"answered {answer.status_code}")
    return answer


def _send(messages: list[Message]) -> list[str]:
    """Send all at once; the sentences about those that failed.

    Each in a thread that is given up after its time: the library's timeouts count from the last
    byte, and looking up a name has none.
    """
    results: dict[str, str] = {}

    def attempt(message: Message) -> None:
        try:
            message.send()
            results[message.what] = ""
        except _UntoldError as e:
            results[message.what] = str(e)
        except Exception as e:  # noqa: BLE001  the run is over: nothing here may change its code
            # Only the type: the text quotes the address, and that of a webhook is a secret.
            results[message.what] = f"could not be reached ({type(causes(e)[-1]).__name__})"

    threads = [threading.Thread(target=attempt, args=(m,), daemon=True) for m in messages]
    for thread in threads:
        thread.start()
    begun = time.monotonic()
    for message, thread in zip(messages, threads, strict=True):
        thread.join(max(0.0, begun + message.seconds - time.monotonic()))
    return [
        f"{m.what} {problem}"
        for m in messages
        if (problem := results.get(m.what, f"gave no answer in {m.seconds:g} s"))
    ]

"""A real failing run, followed from its exit code to the receiver, and its recovery back."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
SHIPPED = ROOT / "deploy" / "prometheus"
PATIENCE = 30.0
TOKEN = "canary-0123456789"  # noqa: S105  made up


def say(text: str) -> None:
    """A line of the transcript."""
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def wait_for(what: str, ask: Callable[[], Any]) -> Any:
    """The first answer that is true; the programs have no other way to say that they are ready."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        try:
            answer = ask()
        except (OSError, ValueError, LookupError):
            answer = None
        if answer:
            return answer
        time.sleep(0.1)
    raise SystemExit(f"FAILED: {what}: not within {PATIENCE:g} s")


def fetch(url: str) -> str:
    """The text of a page."""
    with urllib.request.urlopen(url, timeout=5) as answer:  # noqa: S310  loopback
        text: str = answer.read().decode()
        return text


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@contextmanager
def running(folder: Path, *command: str) -> Iterator[None]:
    """A program of its own process, its output in the folder; ended by its process id."""
    log = folder / f"{Path(command[0]).name}.log"
    with log.open("w") as out:
        process = subprocess.Popen(command, cwd=folder, stdout=out, stderr=subprocess.STDOUT)
        try:
            yield
        finally:
            process.terminate()
            process.wait(10)


@contextmanager
def receiving() -> Iterator[tuple[str, list[tuple[str, dict[str, Any]]]]]:
    """A receiver of webhooks: its address, and what came, as path and JSON."""
    came: list[tuple[str, dict[str, Any]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            came.append((self.path, body))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  the library's name
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"127.0.0.1:{server.server_address[1]}", came
        server.shutdown()


def alerts(came: list[tuple[str, dict[str, Any]]], status: str) -> list[tuple[str, dict[str, str]]]:
    """Paths and labels of the alerts of one status."""
    return [
        (path, alert["labels"])
        for path, body in list(came)
        for alert in body.get("alerts", ())
        if alert["status"] == status
    ]


def main() -> None:
    """Start everything on loopback, run the job badly, then well."""
    begun = time.monotonic()
    names = ("prometheus", "alertmanager", "pushgateway", "node", "replay")
    ports = {name: free_port() for name in names}
    with ExitStack() as stack:
        folder = Path(tempfile.mkdtemp(prefix="etl-alerting-"))
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        hook, came = stack.enter_context(receiving())
        write_configuration(folder, ports, hook)
        here = {name: f"127.0.0.1:{port}" for name, port in ports.items()}
        for command in (
            ("prometheus-pushgateway", f"--web.listen-address={here['pushgateway']}"),
            ("prometheus-alertmanager", "--config.file=alertmanager.yml", "--storage.path=am",
             f"--web.listen-address={here['alertmanager']}", "--cluster.listen-address="),
            ("prometheus", "--config.file=prometheus.yml", "--storage.tsdb.path=tsdb",
             f"--web.listen-address={here['prometheus']}"),
            ("prometheus-node-exporter", f"--web.listen-address={here['node']}",
             "--collector.disable-defaults", "--collector.textfile",
             f"--collector.textfile.directory={folder}"),
            (sys.executable, "-m", "etl.demo", "--port", str(ports["replay"]), "--token", TOKEN),
        ):  # fmt: skip
            stack.enter_context(running(folder, *command))
        for name in ("pushgateway", "alertmanager", "prometheus"):
            wait_for(name, lambda name=name: fetch(f"http://{here[name]}/-/ready"))
        wait_for("node exporter", lambda: fetch(f"http://{here['node']}/metrics"))
        wait_for("replay", lambda: is_listening(ports["replay"]))
        say(f"Pushgateway, Prometheus, Alertmanager, node exporter up: {since(begun)}")

        variables = {
            "ETL_DATA_DIR": str(folder / "data"),
            "ETL_METRICS__PUSHGATEWAY": f"http://{here['pushgateway']}",
            "ETL_METRICS__TEXTFILE": str(folder / "etl.prom"),
            "ETL_NOTIFY__WEBHOOK": f"http://{hook}/notify",
            "ETL_SOURCES__BLUESKY__CLIENT__BASE_URL": f"http://{here['replay']}/xrpc/",
        }
        started = time.monotonic()
        expect(run(variables), 13, "the run without a token")
        path, labels = wait_for(
            "the alert", lambda: next((a for a in alerts(came, "firing")), None)
        )
        say(
            f"etl run ended with 13; {since(started)} after its start "
            f"Alertmanager told {path}: {labels}"
        )
        wanted = {"alertname": "EtlRunFailed", "class": "AUTH", "etl_job": "bluesky"}
        if path != "/operations" or wanted.items() - labels.items():
            raise SystemExit(f"FAILED: {path} got {labels}")
        notices = [body for path, body in came if path == "/notify"]
        expect([n["class"] for n in notices], ["AUTH"], "the job's own notification")

        for job in ("bluesky", "node"):  # what the job pushed, what node_exporter read
            selector = f"etl_run_exit_code%7Bjob=%22{job}%22%7D"
            query = f"http://{here['prometheus']}/api/v1/query?query={selector}"
            found = wait_for(job, lambda query=query: json.loads(fetch(query))["data"]["result"])
            expect(found[0]["metric"]["etl_job"], "bluesky", f"etl_job by {job}")
        say(
            "Prometheus has the run's metrics by the Pushgateway and by the textfile, "
            "under one label"
        )

        variables["ETL_SOURCES__BLUESKY__CLIENT__AUTH__TYPE"] = "bearer"
        variables["ETL_SOURCES__BLUESKY__CLIENT__AUTH__TOKEN"] = TOKEN
        started = time.monotonic()
        expect(run(variables), 0, "the run with a token")
        wait_for("the all-clear", lambda: alerts(came, "resolved"))
        say(f"etl run ended with 0; {since(started)} after its start the alert was resolved")
        notices = [body for path, body in came if path == "/notify"]
        expect([n["status"] for n in notices], ["failure", "recovery"], "the notifications")
        others = {p for p, _ in came} - {"/operations", "/notify"}
        expect(others, set(), "receivers whom it does not concern")
        if TOKEN in json.dumps(came):
            raise SystemExit("FAILED: a secret reached a receiver")
    say(f"push, scrape, alert, route, resolve: {since(begun)}")


def write_configuration(folder: Path, ports: dict[str, int], hook: str) -> None:
    """The shipped configuration with other ports and no patience; nothing else is changed."""
    shutil.copy(SHIPPED / "rules.yml", folder)
    replaced = {
        "prometheus.yml": {
            "30s": "1s",
            "127.0.0.1:9091": f"127.0.0.1:{ports['pushgateway']}",
            "127.0.0.1:9093": f"127.0.0.1:{ports['alertmanager']}",
            "127.0.0.1:9100": f"127.0.0.1:{ports['node']}",
        },
        "alertmanager.yml": {
            "group_wait: 30s": "group_wait: 0s",
            "group_interval: 5m": "group_interval: 1s",
            "127.0.0.1:9099": hook,
        },
    }
    for name, changes in replaced.items():
        text = (SHIPPED / name).read_text(encoding="utf-8")
        for old, new in changes.items():
            if old not in text:
                raise SystemExit(f"FAILED: {name} has no {old}")
            text = text.replace(old, new)
        (folder / name).write_text(text, encoding="utf-8")


def run(variables: dict[str, str]) -> int:
    """The exit code of a real `etl run`, extraction only: that is enough to fail."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("ETL_")}
    command = [sys.executable, "-m", "etl", "run", "--stage", "extract"]
    done = subprocess.run(
        command, cwd=ROOT, env=kept | variables, capture_output=True, text=True, check=False
    )
    return done.returncode


def is_listening(port: int) -> bool:
    """True when somebody accepts connections there."""
    with socket.create_connection(("127.0.0.1", port), timeout=1):
        return True


def since(begun: float) -> str:
    """Seconds passed, for the transcript."""
    return f"{time.monotonic() - begun:.1f} s"


def expect(found: Any, wanted: Any, what: str) -> None:
    """Stop with a line when it is something else."""
    if found != wanted:
        raise SystemExit(f"FAILED: {what}: {found!r} instead of {wanted!r}")


if __name__ == "__main__":
    main()

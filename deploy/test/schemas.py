"""Validates Kubernetes manifests against the strict schemas of the newest six versions.

python schemas.py FILE...

An unknown field and a wrong type are errors. That the schemas bite is tried as well: a field that
no version has must be refused by each of them.
"""

from __future__ import annotations

import copy
import sys
import time
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubernetes_validate.utils import all_versions

NEWEST = 6


def main(files: list[str]) -> None:
    """Print a line for each version; the exit code is 1 when anything was refused."""
    documents = [
        (Path(f).name, d) for f in files for d in yaml.safe_load_all(Path(f).read_text("utf-8"))
    ]
    versions = list(dict.fromkeys(all_versions()))[-NEWEST:]
    wrong = []
    for version in versions:
        begun = time.monotonic()
        refused = [f"{n}: {d['kind']}: {e}" for n, d in documents if (e := refusal(d, version))]
        spoiled = next(copy.deepcopy(d) for _, d in documents if d["kind"] == "CronJob")
        spoiled["spec"]["jobTemplate"]["spec"]["retries"] = 3
        if not refusal(spoiled, version):
            refused.append("a field that does not exist was accepted")
        took = time.monotonic() - begun
        said = f"{len(refused)} REFUSED" if refused else "all valid"
        sys.stdout.write(f"Kubernetes {version}: {len(documents)} objects, {said}, {took:.1f} s\n")
        wrong += refused
    sys.stdout.writelines(f"  {line}\n" for line in wrong)
    raise SystemExit(1 if wrong else 0)


def refusal(document: dict[str, Any], version: str) -> str:
    """Why a version refuses it, or nothing."""
    try:
        kubernetes_validate.validate(document, version, strict=True)
    except kubernetes_validate.ValidationError as e:
        return str(e.message)
    return ""


if __name__ == "__main__":
    main(sys.argv[1:])

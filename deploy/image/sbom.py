"""The bill of materials of an environment: CycloneDX 1.6 JSON from the locked requirements.

    python sbom.py [--complete] [--version VERSION] -r REQUIREMENTS... > sbom.cdx.json

Run it by the environment's own interpreter. What the lock names for this platform must be installed
in the version that it names; with --complete nothing else may be. Same lock, same bytes.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
import uuid
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "etl-job"


def main() -> None:
    """Write the bill to standard output, or say how lock and environment differ."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-r", "--requirement", action="append", required=True, type=Path)
    parser.add_argument("--complete", action="store_true")
    parser.add_argument("--version", default="0.0.0")
    arguments = parser.parse_args()
    locked: dict[str, tuple[str, list[str]]] = {}
    for file in arguments.requirement:
        locked |= read_lock(file.read_text(encoding="utf-8"))
    installed = {canonicalize_name(d.name): d for d in metadata.distributions()}
    found = {name: d.version for name, d in installed.items()}
    wrong = [
        f"{name}: locked {version}, installed {found.get(name, 'not')}"
        for name, (version, _) in locked.items()
        if found.get(name) != version
    ]
    if arguments.complete:
        wrong += [f"{n}: installed, not locked" for n in installed.keys() - locked.keys() - {OURS}]
    if wrong:
        raise SystemExit("sbom.py: lock and environment differ:\n  " + "\n  ".join(sorted(wrong)))
    bill = describe(locked, installed, arguments.version)
    sys.stdout.write(json.dumps(bill, indent=1, sort_keys=True) + "\n")


def read_lock(text: str) -> dict[str, tuple[str, list[str]]]:
    """Name: version and SHA-256 hashes, of what applies to this platform."""
    found = {}
    for entry in text.replace("\\\n", " ").splitlines():
        line = entry.partition("#")[0].strip()
        if line:
            requirement = Requirement(line.partition(" --hash")[0])
            if requirement.marker is None or requirement.marker.evaluate():
                version = str(requirement.specifier).removeprefix("==")
                hashes = re.findall(r"--hash=sha256:([0-9a-f]{64})", line)
                found[canonicalize_name(requirement.name)] = (version, hashes)
    return found


def describe(
    locked: dict[str, tuple[str, list[str]]],
    installed: dict[str, metadata.Distribution],
    version: str,
) -> dict[str, Any]:
    """The CycloneDX document."""
    ours = component(OURS, version, [], installed.get(OURS), kind="application")
    components = [component(n, v, h, installed[n]) for n, (v, h) in sorted(locked.items())]
    references = {c["name"]: c["bom-ref"] for c in [ours, *components]}
    content = json.dumps(components, sort_keys=True)
    return {
        "$schema": "http://cyclonedx.org/schema/bom-1.6.schema.json",
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(uuid.NAMESPACE_OID, content)}",
        "version": 1,
        "metadata": {"component": ours},
        "components": components,
        "dependencies": [
            {"ref": ref, "dependsOn": sorted(references[n] for n in needs(d) if n in references)}
            for ref, d in ((r, installed.get(name)) for name, r in references.items())
        ],
    }


def component(
    name: str,
    version: str,
    hashes: list[str],
    distribution: metadata.Distribution | None,
    kind: str = "library",
) -> dict[str, Any]:
    """One package; its hashes are those of the files that the lock accepts."""
    address = f"pkg:pypi/{name}@{version}"
    found: dict[str, Any] = {
        "type": kind, "name": name, "version": version, "purl": address, "bom-ref": address,
    }  # fmt: skip
    licence = licence_of(distribution)
    if licence:
        found["licenses"] = [licence]
    if hashes:
        sums = [{"alg": "SHA-256", "content": h} for h in hashes]
        found["externalReferences"] = [{"type": "distribution", "url": address, "hashes": sums}]
    return found


def licence_of(distribution: metadata.Distribution | None) -> dict[str, Any] | None:
    """As the package declares it: an SPDX expression, or a name."""
    if distribution is None:
        return None
    said = distribution.metadata
    expression = said.get("License-Expression")
    if expression:
        return {"expression": expression}
    names = [
        c.rpartition(" :: ")[2] for c in said.get_all("Classifier") or () if c.startswith("License")
    ]
    name = ", ".join(names) or (said.get("License") or "").strip().partition("\n")[0]
    return {"license": {"name": name}} if name else None


def needs(distribution: metadata.Distribution | None) -> set[str]:
    """The packages that it requires here; extras are left to whoever asks for them."""
    wanted = [Requirement(r) for r in (distribution.requires if distribution else None) or ()]
    return {
        canonicalize_name(r.name)
        for r in wanted
        if r.marker is None or r.marker.evaluate({"extra": ""})
    }


if __name__ == "__main__":
    main()

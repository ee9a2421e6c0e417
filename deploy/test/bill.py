"""Checks the image's bill of materials: valid CycloneDX, and exactly what is installed.

python bill.py SBOM SITE_PACKAGES
"""

from __future__ import annotations

import json
import re
import sys
from importlib import metadata
from pathlib import Path

from cyclonedx.schema import SchemaVersion
from cyclonedx.validation.json import JsonStrictValidator

OURS = "etl-job"


def main(bill: Path, site_packages: Path) -> None:
    """Print one line; the exit code is 1 when the bill is wrong."""
    text = bill.read_text(encoding="utf-8")
    error = JsonStrictValidator(SchemaVersion.V1_6).validate_str(text)
    if error is not None:
        raise SystemExit(f"FAILED: the SBOM is not valid: {error.data.message}")
    components = json.loads(text)["components"]
    billed = {(c["name"], c["version"]) for c in components}
    found = {
        (re.sub(r"[-_.]+", "-", d.name).lower(), d.version)
        for d in metadata.distributions(path=[str(site_packages)])
    }
    differ = billed ^ {d for d in found if d[0] != OURS}
    if differ:
        raise SystemExit(f"FAILED: SBOM and image differ: {sorted(differ)}")
    licensed = sum("licenses" in c for c in components)
    sys.stdout.write(
        f"SBOM: valid CycloneDX 1.6, {len(components)} packages, {licensed} with a licence\n"
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))

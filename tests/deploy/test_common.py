"""What the scripts of deploy/test share."""

from __future__ import annotations

import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_program_that_is_missing_is_noticed_though_a_function_has_its_name() -> None:
    script = "source deploy/test/common.sh; PATH=; need podman"
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stdout.startswith("SKIPPED: podman is missing")


def test_every_missing_program_of_a_cluster_is_named() -> None:
    script = (
        "source deploy/test/common.sh; source deploy/test/control-plane.sh; PATH=;"
        " can_control node kubelet containerd"
    )
    done = subprocess.run(
        ["bash", "-c", script], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    named = "kube-apiserver kube-controller-manager kubelet containerd"
    assert done.stdout.startswith(f"SKIPPED: node: no {named};")

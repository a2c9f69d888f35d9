"""The container files and the systemd unit, checked by the tools that know them."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
BIN = Path(sys.executable).parent


def run(*words):
    done = subprocess.run(
        [str(w) for w in words], capture_output=True, text=True, check=False, cwd=ROOT
    )
    assert done.returncode == 0, done.stdout + done.stderr


def tool(name):
    found = BIN / name if (BIN / name).exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not at hand")
    return found


def test_the_dockerfile():
    run(tool("hadolint"), "docker/Dockerfile")


def test_the_compose_file():
    run(tool("check-jsonschema"), "--builtin-schema", "vendor.compose-spec", "docker/compose.yml")


def test_the_systemd_unit(tmp_path):
    analyze = tool("systemd-analyze")
    program = tmp_path / "openadr-bridge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = (ROOT / "docs" / "openadr-bridge.service").read_text()
    (tmp_path / "openadr-bridge.service").write_text(
        unit.replace("/opt/openadr-bridge/bin/openadr-bridge", str(program))
    )
    run(analyze, "verify", "--man=no", tmp_path / "openadr-bridge.service")
    run(
        analyze, "security", "--offline=true", "--threshold=20", tmp_path / "openadr-bridge.service"
    )

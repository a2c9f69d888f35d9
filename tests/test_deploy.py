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
    return "" if done.returncode == 0 else done.stdout + done.stderr or "failed"


def tool(name):
    found = BIN / name if (BIN / name).exists() else shutil.which(name)
    if not found:
        pytest.skip(f"{name} is not at hand")
    return found


def test_the_dockerfile():
    assert run(tool("hadolint"), "docker/Dockerfile") == ""


def test_the_compose_file():
    shape = ("--builtin-schema", "vendor.compose-spec")
    assert run(tool("check-jsonschema"), *shape, "docker/compose.yml") == ""


def test_the_systemd_unit(tmp_path):
    analyze = tool("systemd-analyze")
    program = tmp_path / "openadr-bridge"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    unit = (ROOT / "docs" / "openadr-bridge.service").read_text()
    (tmp_path / "openadr-bridge.service").write_text(
        unit.replace("/opt/openadr-bridge/bin/openadr-bridge", str(program))
    )
    assert not run(analyze, "verify", "--man=no", tmp_path / "openadr-bridge.service")
    run(
        analyze, "security", "--offline=true", "--threshold=20", tmp_path / "openadr-bridge.service"
    )


@pytest.mark.long
@pytest.mark.timeout(900)
def test_the_image_is_built_and_runs_where_a_base_is_given(tmp_path):
    """Needs buildah, and BRIDGE_BASE_IMAGE: an archive of a root file system with Python."""
    import os

    buildah, base = tool("buildah"), os.environ.get("BRIDGE_BASE_IMAGE")
    if not base:
        pytest.skip("BRIDGE_BASE_IMAGE names no base to build on")
    storage = [
        "--storage-driver",
        "vfs",
        "--root",
        tmp_path / "images",
        "--runroot",
        tmp_path / "run",
    ]

    def build(*words):
        done = subprocess.run(
            [str(w) for w in (buildah, *storage, *words)],
            capture_output=True,
            text=True,
            check=False,
            cwd=ROOT,
        )
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        return (done.stdout.strip().splitlines() or [""])[-1]

    empty = build("from", "scratch")
    build("add", "-q", empty, base, "/")
    identity = build("commit", "-q", empty, "base")
    certificates = os.environ.get("SSL_CERT_DIR", "/etc/ssl/certs")
    image = build(
        "bud", "-q", "--isolation", "chroot", "--format", "docker", "--build-arg", f"BASE_IMAGE={identity}",
        "-v", f"{certificates}:{certificates}:ro", "-f", "docker/Dockerfile", ".",
    )  # fmt: skip
    container = build("from", image)
    said = build("run", "--isolation", "chroot", container, "--", "openadr-bridge", "--version")
    assert said.startswith("openadr-bridge, version")
    assert build("run", "--isolation", "chroot", container, "--", "id", "-u") == "10001"

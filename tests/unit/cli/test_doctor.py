from __future__ import annotations

import json

import pytest
import yaml

from haops.control.doctor import Finding, Level
from haops.control.lifecycle import Lifecycle

from .conftest import Run

GOOD = Finding("python", Level.OK, "3.11")
BAD = Finding("compose", Level.FAIL, "there is no docker command", "make engine")
ODD = Finding("disk", Level.WARN, "1 GiB free", "docker system prune")


@pytest.mark.parametrize(("findings", "code"), [((GOOD,), 0), ((GOOD, ODD), 0), ((GOOD, ODD, BAD), 3)])
@pytest.mark.parametrize("shape", ["table", "wide", "json", "yaml", "name"])
def test_only_a_failure_ends_with_3(
    run: Run,
    fake: Lifecycle,
    monkeypatch: pytest.MonkeyPatch,
    findings: tuple[Finding, ...],
    code: int,
    shape: str,
) -> None:
    monkeypatch.setattr("haops.control.doctor.examine", lambda haops: findings)
    assert run("doctor", "-o", shape).code == code


def test_the_shapes_of_the_findings(run: Run, fake: Lifecycle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("haops.control.doctor.examine", lambda haops: (GOOD, BAD))
    document = json.loads(run("doctor", "-o", "json").out)
    assert document == {
        "version": 1,
        "findings": [
            {"check": "python", "status": "ok", "detail": "3.11", "fix": None},
            {
                "check": "compose",
                "status": "fail",
                "detail": "there is no docker command",
                "fix": "make engine",
            },
        ],
    }
    assert yaml.safe_load(run("doctor", "-o", "yaml").out) == document
    assert run("doctor", "-o", "name").out == "compose\n"
    assert "make engine" in run("doctor").out

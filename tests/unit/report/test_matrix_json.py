from __future__ import annotations

import json
from dataclasses import replace
from datetime import datetime, timedelta, timezone

import pytest
from hypothesis import HealthCheck, given, settings

from haops.errors import BadInput
from haops.matrix.cells import MATRIX_VERSION, Matrix
from haops.report import matrix_json

from . import matrix_fixture
from .test_jsonio import any_of


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(any_of(Matrix).map(lambda matrix: replace(matrix, version=MATRIX_VERSION)))
def test_what_is_dumped_is_loaded(matrix: Matrix) -> None:
    text = matrix_json.dump(matrix)
    assert matrix_json.load(text, "matrix.json") == matrix
    assert matrix_json.dump(matrix_json.load(text, "matrix.json")) == text


@pytest.mark.parametrize("matrix", [matrix_fixture.matrix(), matrix_fixture.hostile(), matrix_fixture.bare()])
def test_real_matrices_round_trip(matrix: Matrix) -> None:
    assert matrix_json.load(matrix_json.dump(matrix), "m") == matrix


def test_keys_are_the_names_of_the_fields() -> None:
    plain = json.loads(matrix_json.dump(matrix_fixture.matrix()))
    assert list(plain)[:4] == ["version", "run", "started", "finished"]
    cell = plain["cells"][3]
    assert cell["key"] == {"store": "redis", "mode": "async", "fault": "partition"}
    assert cell["trials"][0]["write_recovery"]["detect_ms"] > 0


def test_times_of_other_zones_become_utc() -> None:
    local = datetime(2026, 3, 4, 7, 6, 7, tzinfo=timezone(timedelta(hours=2)))
    text = matrix_json.dump(replace(matrix_fixture.matrix(1), started=local))
    assert '"started": "2026-03-04T05:06:07Z"' in text


def test_a_figure_that_is_no_number_is_refused() -> None:
    made = matrix_fixture.matrix(1)
    bad = replace(made.cells[0].trials[0], rate=float("nan"))
    with pytest.raises(ValueError, match="JSON"):
        matrix_json.dump(replace(made, cells=(replace(made.cells[0], trials=(bad,)),)))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"seed": 42', '"seed": "many"', "seed: Input should be a valid integer"),
        ('"seed": 42', '"seed": 42,,', "not JSON"),
        ('"version": 1,', '"version": 2,', "newer than this haops"),
        ('"version": 1,', '"version": true,', "version is True"),
        ('"fault": "kill"', '"fault": "flood"', "cells.1.key.fault"),
        ('"consistency": "linearizable"', '"consistency": "fine"', "cells.0.trials.0.consistency"),
        ('"clients": 8', '"clients": null', "cells.0.parts.clients"),
    ],
)
def test_errors_name_file_line_and_key(old: str, new: str, message: str) -> None:
    text = matrix_json.dump(matrix_fixture.matrix(1))
    line = text[: text.index(old)].count("\n") + 1
    with pytest.raises(BadInput) as caught:
        matrix_json.load(text.replace(old, new, 1), "runs/1/matrix.json")
    assert str(caught.value).startswith(f"runs/1/matrix.json:{line}: ")
    assert message in str(caught.value)


@pytest.mark.parametrize("text", ["", "[]", "null", "3", "{}", '{"version": 1}', "[" * 200_000])
def test_other_texts_are_refused(text: str) -> None:
    with pytest.raises(BadInput, match="x:1"):
        matrix_json.load(text, "x")


def test_a_drills_result_is_no_matrix() -> None:
    with pytest.raises(BadInput, match="not a run of the matrix"):
        matrix_json.load('{"version": 1, "stores": {}}', "result.json")

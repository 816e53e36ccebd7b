from __future__ import annotations

import csv
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.history import files
from haops.history.formats import WRITABLE, Format, guess, read, text_lines, write
from haops.history.formats.tables import HEADER
from haops.history.record import NIL, History, Kind, Outcome

from .samples import Record, history_of, recorded, records

LOGS = Path(__file__).parents[4] / "shared" / "histories"
SUFFIX = {Format.JSONL: "jsonl", Format.CSV: "csv", Format.EDN: "edn"}


def carried(history: History) -> list[Record]:
    """What Jepsen's format says of a history; order within a moment is left out."""
    rows = records(history)
    threads = max((r["process"] for r in rows), default=0) + 1
    sets = any(r["kind"] == Kind.LIST and r["outcome"] == Outcome.OK for r in rows)
    made = []
    for r in rows:
        kind, value, key = r["kind"], r["value"], r["key"]
        if kind == Kind.LIST:
            key = 0
            # A read of a set that was not answered is known for one only beside others.
            kind = Kind.LIST if sets else Kind.READ
        if kind == Kind.ADD and any(x["kind"] == Kind.LIST for x in rows):
            # The element is the value on paper; without an answered LIST it stays there.
            key, value = (key, NIL) if sets else (0, key)
        made.append(r | {"kind": int(kind), "key": key, "value": value, "intended": r["sent"],
                         "process": r["process"] % threads})  # fmt: skip
    return sorted(made, key=repr)


@pytest.mark.parametrize("name", ["h.jsonl", "h.csv", "h.jsonl.gz", "h.csv.gz"])
@given(seen=recorded())
def test_what_is_exported_as_a_table_is_read_back_whole(
    name: str, seen: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("out") / name
    write([seen], path, guess(path))
    assert records(read(path)) == records(seen)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") == name.endswith(".gz")


@given(seen=recorded(), size=st.integers(1, 30))
def test_what_is_exported_for_jepsen_is_read_back_as_far_as_it_says(
    seen: History, size: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("out") / "h.edn"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "GROUP_ROWS", size)
        write([seen], path, Format.EDN)
    again = read(path)
    threads = int(seen.process.max()) + 1 if len(seen) else 1
    back = [r | {"process": r["process"] % threads} for r in records(again)]
    assert sorted(back, key=repr) == carried(seen)


@given(seen=recorded(), size=st.integers(1, 30))
def test_jepsens_events_are_in_order_and_numbered(seen: History, size: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "GROUP_ROWS", size)
        lines = list(text_lines([seen], Format.EDN))
    assert len(lines) == 2 * len(seen)
    times = [int(line.split(":time ")[1].split("}")[0].split(",")[0]) for line in lines]
    assert times == sorted(times)
    assert [line.split(",")[0] for line in lines] == [f"{{:index {n}" for n in range(len(lines))]


def test_jepsens_shape(tmp_path: Path) -> None:
    seen = history_of(
        (0, Kind.WRITE, 5, 1, NIL, 1, 2, Outcome.OK),
        (1, Kind.READ, 5, 1, NIL, 3, 6, Outcome.OK),
        (0, Kind.CAS, 5, 3, 1, 4, 5, Outcome.INFO),
        (0, Kind.ADD, 9, 2, NIL, 7, 8, Outcome.OK),
        (0, Kind.ACQUIRE, 4, 77, NIL, 9, 10, Outcome.OK),
    )
    assert "".join(text_lines([seen], Format.EDN)).splitlines() == [
        "{:index 0, :type :invoke, :process 0, :f :write, :value [5 1], :time 1}",
        "{:index 1, :type :ok, :process 0, :f :write, :value [5 1], :time 2}",
        "{:index 2, :type :invoke, :process 1, :f :read, :value [5 nil], :time 3}",
        "{:index 3, :type :invoke, :process 0, :f :cas, :value [5 [1 3]], :time 4}",
        "{:index 4, :type :info, :process 0, :f :cas, :value [5 [1 3]], :time 5}",
        "{:index 5, :type :ok, :process 1, :f :read, :value [5 1], :time 6}",
        # After an :info a process goes on under a new number.
        "{:index 6, :type :invoke, :process 2, :f :add, :value [9 2], :time 7}",
        "{:index 7, :type :ok, :process 2, :f :add, :value [9 2], :time 8}",
        "{:index 8, :type :invoke, :process 2, :f :acquire, :value [4 nil], :time 9}",
        "{:index 9, :type :ok, :process 2, :f :acquire, :value [4 77], :time 10}",
    ]


def test_operations_that_touch_are_concurrent_for_jepsen_but_not_a_clients_own() -> None:
    seen = history_of(
        (0, Kind.WRITE, 1, 1, NIL, 0, 5, Outcome.OK),
        (0, Kind.WRITE, 1, 2, NIL, 5, 5, Outcome.OK),
        (1, Kind.WRITE, 1, 3, NIL, 5, 6, Outcome.OK),
    )
    at_five = [line for line in text_lines([seen], Format.EDN) if ":time 5" in line]
    assert [(":invoke" in line, line.split(":process ")[1][0]) for line in at_five] == [
        (True, "1"),
        (False, "0"),
        (True, "0"),
        (False, "0"),
    ]


@pytest.mark.parametrize("span", [(3, 6), (9, 8)])
def test_a_client_with_two_operations_at_a_time_cannot_be_jepsens(span: tuple[int, int]) -> None:
    seen = history_of(
        (0, Kind.WRITE, 1, 1, NIL, 2, 5, Outcome.OK), (0, Kind.WRITE, 1, 2, NIL, *span, Outcome.OK)
    )
    with pytest.raises(BadInput, match="client 0 has"):
        list(text_lines([seen], Format.EDN))


def test_other_tools_read_what_is_exported(tmp_path: Path) -> None:
    seen = history_of(
        (0, Kind.WRITE, 7, 1, NIL, 1, 2, Outcome.INFO),
        (2, Kind.LIST, 0, NIL, NIL, 5, 6, Outcome.OK, [7, 8]),
    )
    write([seen], tmp_path / "h.csv", Format.CSV)
    with (tmp_path / "h.csv").open(newline="") as file:
        head, one, other = csv.reader(file)
    assert tuple(head) == HEADER
    assert one == ["0", "write", "7", "1", "", "1", "1", "2", "info", "", "", ""]
    assert other[-1] == "7 8"
    write([seen], tmp_path / "h.jsonl", Format.JSONL)
    first, second = map(json.loads, (tmp_path / "h.jsonl").read_text().splitlines())
    assert first["value"] == 1 and first["expected"] is None and "items" not in first
    assert second["items"] == [7, 8] and second["value"] is None


def test_a_log_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match="not written as text"):
        write([history_of()], tmp_path / "h.log", Format.LOG)


def test_an_unknown_name_is_bad_input_that_lists_the_formats() -> None:
    with pytest.raises(BadInput) as caught:
        guess(Path("h.xml.gz"))
    assert all(form.value in str(caught.value.hint) for form in Format)


# ---- cut files


@pytest.mark.parametrize("form", WRITABLE)
@given(data=st.data(), seen=recorded(max_size=6))
def test_a_cut_text_is_bad_input_or_a_shorter_history(
    form: Format, data: st.DataObject, seen: History, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.mktemp("out") / f"h.{SUFFIX[form]}"
    write([seen], path, form)
    whole = path.read_bytes()
    cut = whole[: data.draw(st.integers(0, max(len(whole) - 1, 0)))]
    # Where a line or a form ends, nobody can tell.
    assume(form is not Format.CSV or not cut.endswith(b"\n"))
    path.write_bytes(cut)
    try:
        shorter = read(path)
    except BadInput as error:
        assert error.message.startswith(f"{path}:")
        return
    assert form is not Format.CSV
    assert cut.rstrip().endswith(b"}") or not cut.strip()
    assert len(shorter) <= len(seen)


@pytest.mark.parametrize("form", WRITABLE)
def test_a_cut_compressed_file_is_bad_input(form: Format, tmp_path: Path) -> None:
    path = tmp_path / f"h.{SUFFIX[form]}.gz"
    write([history_of((0, Kind.WRITE, 1, 1, NIL, 2, 5, Outcome.OK))], path, form)
    path.write_bytes(path.read_bytes()[:-5])
    with pytest.raises(BadInput, match="cut off or damaged"):
        read(path)


@pytest.mark.parametrize("name", ["h.csv", "h.jsonl", "h.edn", "h.log"])
def test_a_missing_file_and_one_that_is_not_utf8_are_bad_input(name: str, tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=":1:1: cannot be read"):
        read(tmp_path / name)
    (tmp_path / name).write_bytes(b"\xff\xfe\n")
    with pytest.raises(BadInput, match=":1:1: not UTF-8"):
        read(tmp_path / name)


# ---- wrong tables

CSV_HEAD = "process,kind,key,value,sent,completed,outcome\n"


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("", "1:1", "lacks process"),
        ("a,b\n1,2\n", "1:1", "'a' cannot be"),
        ("process,kind,kind\n", "1:14", "'kind' cannot be"),
        (CSV_HEAD + "x,write,1,1,1,1,ok\n", "2:1", "process is 'x'"),
        (CSV_HEAD + "0,write,1,1,1,1,ok\n0,writ,1,1,1,1,ok\n", "3:3", "kind is 'writ'"),
        (CSV_HEAD + "0,write,1,1,1,1,okay\n", "2:17", "outcome is 'okay'"),
        (CSV_HEAD + "0,write\n", "2:1", "2 fields where"),
        (CSV_HEAD + f"0,write,{2**63},1,1,1,ok\n", "2:9", "key is"),
        (CSV_HEAD + f"{2**31},write,1,1,1,1,ok\n", "2:1", "process is"),
        (CSV_HEAD + "0,write,,1,1,1,ok\n", "2:9", "key is missing"),
        (CSV_HEAD + '0,write,"1', "2:11", "may be cut off"),
        (CSV_HEAD + '0,write,"1"2,1,1,1,ok\n', "2:1", "not CSV"),
        (CSV_HEAD + "0,write,1,1,1,1,ok", "2:19", "may be cut off"),
        (CSV_HEAD[:-1] + ",items\n0,write,1,1,1,1,ok,1 2\n", "2:20", "has no items"),
        (CSV_HEAD[:-1] + ",items\n0,list,1,1,1,1,ok,1 x\n", "2:19", "items is 'x'"),
    ],
)
def test_a_wrong_csv_is_told_by_its_place(tmp_path: Path, text: str, place: str, what: str) -> None:
    path = tmp_path / "h.csv"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}:{place}: ")
    assert what in caught.value.message
    assert caught.value.hint


GOOD = '{"process": 0, "kind": "read", "key": 1, "sent": 1, "completed": 2, "outcome": "ok"}\n'


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("[1]\n", "1:1", "not a JSON object"),
        (GOOD + GOOD[:-3] + "\n", "2:83", ""),
        (GOOD.replace("key", "kee"), "1:32", "unknown column 'kee'"),
        (GOOD.replace('"key": 1', '"key": true'), "1:32", "key is 'True'"),
        (GOOD.replace('"key": 1', '"key": 1.0'), "1:32", "key is '1.0'"),
        (GOOD.replace('"key": 1', f'"key": {"9" * 5000}'), "1:1", "digit"),
        (GOOD.replace('"read"', "7"), "1:16", "kind is 7"),
        (GOOD.replace("}", ', "node": 3}'), "1:86", "node is 3"),
        (GOOD.replace("}", ', "items": [3]}'), "1:86", "has no items"),
        (GOOD.replace("read", "list").replace("}", ', "items": 3}'), "1:86", "no array"),
        ("[" * 100_000 + "\n", "1:1", "recursion"),
    ],
)
def test_a_wrong_json_line_is_told_by_its_place(tmp_path: Path, text: str, place: str, what: str) -> None:
    path = tmp_path / "h.jsonl"
    path.write_text(text)
    with pytest.raises(BadInput) as caught:
        read(path)
    assert caught.value.message.startswith(f"{path}:{place}: ")
    assert what in caught.value.message
    assert caught.value.hint


def test_what_need_not_be_given_has_its_default(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text(GOOD + "\n")
    (row,) = records(read(tmp_path / "h.jsonl"))
    assert (row["value"], row["expected"], row["intended"], row["node"]) == (NIL, NIL, 1, "")


def test_a_list_that_was_answered_with_nothing_is_an_empty_one(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_text(GOOD.replace("read", "list"))
    (row,) = records(read(tmp_path / "h.jsonl"))
    assert row["items"] == []


# ---- Jepsen's EDN


def edn(tmp_path: Path, text: str) -> History:
    (tmp_path / "h.edn").write_text(text)
    return read(tmp_path / "h.edn")


def test_edn_of_several_ages_is_understood(tmp_path: Path) -> None:
    seen = edn(
        tmp_path,
        """; a comment
        [#jepsen.history.Op{:index 0, :time 10, :type :invoke, :process 0, :f :read, :value nil}
         {:process :nemesis, :type :info, :f :start, :value nil, :time 11}
         {:type :ok, :f :read, :value 3, :process 0, :time 12, :extra #{1 2.5 "x" \\a sym (1 #_9)}}
         #_ {:never mind}
         {:type :invoke, :f :cas, :value [1 2], :process 1N, :time 13, :node "n1" }
         {:type :fail, :f :cas, :value :nope, :process 1, :time +14, :error [:not "found" 3], "key" 1}]
        """,
    )
    first, second = records(seen)
    assert (first["key"], first["value"], first["sent"], first["completed"]) == (0, 3, 10, 12)
    assert (second["expected"], second["value"], second["outcome"]) == (1, 2, Outcome.FAIL)
    assert (second["node"], second["error"]) == ("n1", '[:not "found" 3]')


def test_an_invocation_without_completion_may_still_happen(tmp_path: Path) -> None:
    seen = edn(
        tmp_path,
        "{:type :invoke :f :write :value [7 1] :process 0 :time 5}\n"
        "{:type :invoke :f :read :value [7 nil] :process 1 :time 6}\n"
        "{:type :ok :f :read :value [7 1] :process 1 :time 9}",
    )
    assert [(r["kind"], r["outcome"], r["completed"]) for r in records(seen)] == [
        (Kind.READ, Outcome.OK, 9),
        (Kind.WRITE, Outcome.INFO, 10),
    ]


def test_without_times_the_order_counts(tmp_path: Path) -> None:
    seen = edn(
        tmp_path, "{:type :invoke :f :read :process 0 :value nil} {:type :ok :f :read :process 0 :value 1}"
    )
    assert (seen.sent.tolist(), seen.completed.tolist()) == ([0], [1])


def event(word: str, f: str, value: str, process: int = 0, time: int = 1) -> str:
    return f"{{:type :{word} :f :{f} :value {value} :process {process} :time {time}}}\n"


@pytest.mark.parametrize(("found", "items"), [("#{1 2}", [1, 2]), ("[1 2]", [1, 2]), ("(1 1)", [1, 1]),
                                              ("[1 2 3]", [1, 2, 3]), ("#{}", []), ("nil", [])])  # fmt: skip
def test_a_set_is_read_whole_and_adds_are_its_elements(tmp_path: Path, found: str, items: list[int]) -> None:
    seen = edn(
        tmp_path,
        event("invoke", "add", "5") + event("ok", "add", "5")
        + event("invoke", "read", "nil") + event("ok", "read", "#{5}")
        + event("invoke", "read", "nil") + event("ok", "read", found),
    )  # fmt: skip
    add, _, last = records(seen)
    assert (add["kind"], add["key"], add["value"]) == (Kind.ADD, 5, NIL)
    assert (last["kind"], last["items"]) == (Kind.LIST, items)


def test_a_counter_is_added_to_and_read(tmp_path: Path) -> None:
    seen = edn(tmp_path, event("invoke", "add", "5") + event("ok", "add", "5")
               + event("invoke", "read", "nil") + event("ok", "read", "5"))  # fmt: skip
    assert [(r["kind"], r["key"], r["value"]) for r in records(seen)] == [(Kind.ADD, 0, 5), (Kind.READ, 0, 5)]


def test_a_lock_is_acquired_with_its_token(tmp_path: Path) -> None:
    seen = edn(tmp_path, event("invoke", "acquire", "[3 nil]") + event("ok", "acquire", "[3 9]")
               + event("invoke", "release", "[3 9]") + event("ok", "release", "[3 9]"))  # fmt: skip
    assert [(r["kind"], r["key"], r["value"]) for r in records(seen)] == [
        (Kind.ACQUIRE, 3, 9),
        (Kind.RELEASE, 3, 9),
    ]


ASK, TOLD = event("invoke", "read", "nil"), event("ok", "read", "1", time=2)


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        (TOLD, "1:1", "no operation open"),
        (ASK + ASK, "2:1", "open since line 1"),
        (ASK + event("ok", "write", "1", time=2), "2:1", "is a read"),
        (ASK + event("ok", "read", "1", time=0), "2:1", "ends before it began"),
        (event("invoke", "nap", "1"), "1:19", ":f is 'nap'"),
        (event("begin", "read", "1"), "1:8", ":type is 'begin'"),
        ("{:f :read :process 0}", "1:1", ":type is missing"),
        ('{:type "ok" :f :read :process 0}', "1:8", ":type is 'ok'"),
        (event("invoke", "write", "1.5"), "1:33", ":value of a write is '1.5'"),
        (event("invoke", "write", "true"), "1:34", ""),
        (event("invoke", "write", str(2**63)), "1:33", ":value of a write"),
        (event("invoke", "cas", "[1 2 3]"), "1:31", ":value of a cas"),
        (event("invoke", "read", "nil", process=-1), "1:45", ":process is '-1'"),
        ("{:type :invoke :f :read :process 0 :time 1.5}", "1:42", ":time is '1.5'"),
        (event("invoke", "read", "[1 nil]") + event("ok", "read", "[2 1]", time=2), "2:1", "another key"),
        (event("invoke", "read", "[1 nil]") + event("ok", "read", "1", time=2), "2:1", "another key"),
        (ASK + "7", "2:1", "not a map"),
        (ASK + "{:a [1}", "2:7", "} where ] is to close"),
        (ASK + "{:a}", "2:4", "no value"),
        (ASK + "}", "2:1", "} closes nothing"),
        (ASK + "{:a 1", "2:1", "the file ends after"),
        (ASK + "#tag", "2:1", "the file ends after"),
        (ASK + '{:a "x\ny', "2:5", "not closed"),
        (ASK + '{:a # }', "2:5", "is no form"),
        ("[" + ASK, "1:2", "before the [ is closed"),
        ("{:a " * 60, "1:202", "nested deeper"),
        ('{:a "x\ny" :type 5}', "2:10", ":type is '5'"),
    ],
)  # fmt: skip
def test_a_wrong_edn_is_told_by_its_place(tmp_path: Path, text: str, place: str, what: str) -> None:
    with pytest.raises(BadInput) as caught:
        edn(tmp_path, text)
    assert what in caught.value.message
    if what and what != "before the [ is closed":
        assert caught.value.message.startswith(f"{tmp_path / 'h.edn'}:{place}: "), caught.value.message
    assert caught.value.hint


# ---- Jepsen's log


def log(tmp_path: Path, *entries: str) -> History:
    lines = [f"INFO  jepsen.util - {e.replace(' ', chr(9), 3)}\n" for e in entries]
    (tmp_path / "h.log").write_text("INFO  jepsen.core - Running test\n" + "".join(lines))
    return read(tmp_path / "h.log")


def test_a_log_is_read_with_lines_for_times(tmp_path: Path) -> None:
    seen = log(
        tmp_path,
        "0 :invoke :write 4",
        "1 :invoke :read nil",
        "2 :invoke :cas [4 5]",
        ":nemesis :info :start nil",
        "1 :ok :read 4",
        "2 :fail :cas [4 5]",
        "3 :invoke :read nil",
        "3 :info :read :timed-out",
        "0 :info :write java.net.SocketTimeoutException: Read timed out",
        "4 :invoke :cas [4 6]",
        "4 :info :cas :timed-out",
        "5 :invoke :write 9",
    )
    rows = {r["process"]: r for r in records(seen)}
    assert {p: Outcome(r["outcome"]) for p, r in rows.items()} == {
        0: Outcome.INFO,
        1: Outcome.OK,
        2: Outcome.FAIL,
        3: Outcome.FAIL,
        4: Outcome.INFO,
        5: Outcome.INFO,
    }
    assert (rows[1]["sent"], rows[1]["completed"], rows[1]["value"]) == (3, 6, 4)
    assert (rows[2]["expected"], rows[2]["value"], rows[2]["error"]) == (4, 5, "")
    assert rows[3]["error"] == "timed-out"
    # Open to the end, which is after the last line.
    assert {rows[p]["completed"] for p in (0, 4, 5)} == {14}


@pytest.mark.parametrize(
    ("entry", "place", "what"),
    [
        ("0 :ok :read 1", "2:21", "no operation open"),
        ("0 :begin :read 1", "2:23", ":begin is unknown"),
        ("0 :invoke :add 1", "2:31", ":add is unknown"),
        ("0 :invoke :write x", "2:38", "the value of a write is 'x'"),
        ("0 :invoke :cas 1", "2:36", "the value of a cas is '1'"),
        ("x :invoke :read nil", "2:21", "process 'x'"),
    ],
)
def test_a_wrong_log_is_told_by_its_place(tmp_path: Path, entry: str, place: str, what: str) -> None:
    with pytest.raises(BadInput) as caught:
        log(tmp_path, entry)
    assert caught.value.message.startswith(f"{tmp_path / 'h.log'}:{place}: "), caught.value.message
    assert what in caught.value.message
    assert caught.value.hint


def test_two_open_invocations_of_a_process_are_bad_input(tmp_path: Path) -> None:
    with pytest.raises(BadInput, match=":3:21: process 0 has an operation open since line 2"):
        log(tmp_path, "0 :invoke :read nil", "0 :invoke :read nil")


def test_a_cut_log_and_one_without_operations_are_bad_input(tmp_path: Path) -> None:
    log(tmp_path, "0 :invoke :write 12")
    whole = (tmp_path / "h.log").read_text()
    (tmp_path / "h.log").write_text(whole[:-2])
    with pytest.raises(BadInput, match="may be cut off"):
        read(tmp_path / "h.log")
    (tmp_path / "h.log").write_text("hello\n")
    with pytest.raises(BadInput, match="no operation of a Jepsen log"):
        read(tmp_path / "h.log")


def test_every_recorded_log_is_read_whole_and_survives_every_format(tmp_path: Path) -> None:
    if not LOGS.is_dir():
        pytest.skip(f"{LOGS} is not here")
    with (LOGS / "verdicts.tsv").open(newline="") as file:
        counts = {row["file"]: int(row["ops"]) for row in csv.DictReader(file, delimiter="\t")}
    assert len(counts) == 50
    for name, count in counts.items():
        seen = read(LOGS / name)
        assert len(seen) == count, name
        for form in WRITABLE:
            path = tmp_path / f"h.{SUFFIX[form]}"
            write([seen], path, form)
            assert len(read(path)) == count
            if form is not Format.EDN:
                assert records(read(path)) == records(seen)


def test_a_text_packed_by_others_is_read_whatever_its_name(tmp_path: Path) -> None:
    (tmp_path / "h.jsonl").write_bytes(gzip.compress(GOOD.encode()))
    assert len(read(tmp_path / "h.jsonl")) == 1

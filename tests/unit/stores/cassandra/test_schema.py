"""A schema as the server tells it: kept, compared, fitted to another ring."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from haops.errors import BadInput
from haops.stores.backup import NotRestorable
from haops.stores.cassandra import schema
from haops.stores.cassandra.placement import Member
from haops.stores.cassandra.schema import Entry, Only

ID = "9c918a10-e81f-11f1-b04a-e7abe118a1cb"
KEYSPACE = Entry(
    "odd",
    "keyspace",
    "odd",
    "CREATE KEYSPACE odd WITH replication = {'class': 'org.apache.cassandra.locator.NetworkTopologyStrategy', "
    "'dc1': '3'}  AND durable_writes = true;",
)
TABLE = Entry(
    "odd",
    "table",
    '"Mixed"',
    f'CREATE TABLE odd."Mixed" (\n    a int PRIMARY KEY,\n    gone text\n) WITH ID = {ID}\n    '
    "AND comment = '; no end';\n"
    'ALTER TABLE odd."Mixed" DROP gone USING TIMESTAMP 17;',
)
HITS = Entry(
    "odd", "table", "hits", "CREATE TABLE odd.hits (\n    k text PRIMARY KEY,\n    n counter\n) WITH x = 1;"
)
INDEX = Entry("odd", "index", "by_v", 'CREATE INDEX by_v ON odd."Mixed" (v);')
OTHER = Entry("odd", "index", "by_k", "CREATE INDEX by_k ON odd.hits (k);")
ALL = (KEYSPACE, TABLE, HITS, INDEX, OTHER)
RING = [Member("a", 0, "dc1"), Member("b", 1, "dc1")]

text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30)


def test_a_written_schema_is_read_as_it_was() -> None:
    assert schema.read(schema.written(ALL).decode()) == ALL


def test_what_is_no_schema_is_refused() -> None:
    with pytest.raises(NotRestorable, match="cannot be read"):
        schema.read("-- haops: {nothing\nCREATE")


def test_statements_end_at_semicolons_outside_of_quotes() -> None:
    found = list(schema.statements(TABLE.cql))
    assert len(found) == 2
    assert found[1].startswith("ALTER TABLE")
    body = "CREATE FUNCTION f () AS $$ a; b; $$; SELECT 'it''s; one' ; "
    assert list(schema.statements(body)) == ["CREATE FUNCTION f () AS $$ a; b; $$", "SELECT 'it''s; one'"]


@given(st.lists(text.map(lambda t: "SELECT '" + t.replace("'", "''") + "'"), max_size=5))
def test_statements_are_taken_apart_as_they_were_joined(made: list[str]) -> None:
    assert list(schema.statements(";\n".join(made))) == [m.strip() for m in made]


def test_a_table_is_equal_to_itself_under_another_number() -> None:
    again = Entry("odd", "table", '"Mixed"', TABLE.cql.replace(ID, ID.replace("9", "8")))
    assert schema.differs([TABLE], [again]) == ()
    assert ID not in schema.without_id(TABLE.cql)
    assert "AND comment" not in schema.without_id(TABLE.cql), "what followed the number takes its WITH"
    assert schema.without_id(f"CREATE TABLE t (a int) WITH ID = {ID};") == "CREATE TABLE t (a int);"


def test_a_column_that_was_dropped_elsewhere_only_makes_a_difference() -> None:
    undropped = Entry("odd", "table", '"Mixed"', TABLE.cql.partition("ALTER")[0])
    assert schema.differs([TABLE], [undropped]) == (TABLE,)


def test_a_table_whose_making_broke_off_lacks_the_rest_of_its_statements() -> None:
    first, drop = schema.statements(TABLE.cql)
    # The server tells columns by name; those that were dropped come behind.
    told = first.replace("    a int PRIMARY KEY,\n    gone text", "    gone text,\n    a int PRIMARY KEY")
    assert told != first
    half = Entry("odd", "table", '"Mixed"', f"{told};")
    assert schema.lacking(TABLE, half) == (drop,)
    second = drop.replace("gone", "gone2")
    assert schema.lacking(Entry("odd", "table", "m", f"{TABLE.cql}\n{second};"), TABLE) == (second,)


def test_another_table_is_not_one_whose_making_broke_off() -> None:
    first, drop = schema.statements(TABLE.cql)
    for cql in (
        first.replace("gone text", "gone int"),
        first.replace("gone text", "gone text,\n    more int"),
        f"{first};\n{drop.replace('17', '18')};",
    ):
        assert schema.lacking(TABLE, Entry("odd", "table", '"Mixed"', cql)) == ()


def test_a_keyspace_may_have_other_replication() -> None:
    other = schema.with_replication(KEYSPACE, {"class": "X", "dc1": "1"})
    assert schema.replication_of(other) == {"class": "X", "dc1": "1"}
    assert schema.differs([KEYSPACE], [other]) == ()
    assert schema.missing(ALL, [other, HITS]) == (TABLE, INDEX, OTHER)


def test_a_table_comes_with_its_keyspace_and_its_own_indexes() -> None:
    assert schema.selected(ALL, Only("odd", "Mixed")) == (KEYSPACE, TABLE, INDEX)
    assert schema.selected(ALL, Only("odd")) == ALL
    assert schema.selected(ALL, Only("other")) == ()


def test_the_table_that_up_makes_is_nobodys_data() -> None:
    proof = Entry("haops", "table", "ready", "CREATE TABLE haops.ready (name text PRIMARY KEY);")
    assert schema.selected([proof], Only()) == ()


@pytest.mark.parametrize(
    ("asked", "kept"),
    [
        ({"class": "N", "dc1": "3"}, {"class": "N", "dc1": "2"}),
        ({"class": "N", "dc1": "1", "dc2": "3"}, {"class": "N", "dc1": "1"}),
        (
            {"class": "x.SimpleStrategy", "replication_factor": "3"},
            {"class": "x.SimpleStrategy", "replication_factor": "2"},
        ),
    ],
)
def test_replication_is_cut_to_what_a_ring_can_have(asked: dict[str, str], kept: dict[str, str]) -> None:
    assert schema.fitting(asked, RING) == kept


def test_copies_in_no_data_centre_of_the_target_are_refused() -> None:
    with pytest.raises(NotRestorable, match="dc1"):
        schema.fitting({"class": "N", "dc7": "3"}, RING)


def test_only_is_a_keyspace_or_a_table() -> None:
    assert schema.parse_only(None) == Only()
    assert schema.parse_only("odd") == Only("odd")
    assert schema.parse_only("odd.Mixed") == Only("odd", "Mixed")
    for words in ("", ".t", "odd.", "a.b.c"):
        with pytest.raises(BadInput):
            schema.parse_only(words)


@pytest.mark.parametrize(
    "column", ["n counter", '"page views" counter', "n counter static", '"q""q" counter,']
)
def test_a_counter_may_have_any_name_and_be_static(column: str) -> None:
    assert schema.counts(Entry("o", "table", "t", f"CREATE TABLE o.t (\n    {column}\n) WITH x = 1;"))


@pytest.mark.parametrize("column", ["counter text", '"n counter" text', "n frozen<counter>"])
def test_what_is_only_called_so_is_no_counter(column: str) -> None:
    comment = "comment = '\n    n counter\n'"
    cql = f"CREATE TABLE o.t (\n    {column}\n) WITH {comment};"
    assert not schema.counts(Entry("o", "table", "t", cql))


def test_counters_are_told_by_their_columns_type() -> None:
    assert [e.name for e in ALL if schema.counts(e)] == ["hits"]

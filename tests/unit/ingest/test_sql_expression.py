"""Declared SQL: one expression over one row, that gives the same answer each time, and nothing else."""

import duckdb
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from assets.ingest.sql_expression import ExpressionError, literal, quoted, source_columns


@pytest.mark.parametrize(
    ("expression", "columns"),
    [
        ('"Street Name"', ("Street Name",)),
        ('coalesce("a", "b", \'x\')', ("a", "b")),
        ("'no column -- at all'", ()),
        ("json_object('ward', \"Ward\", 'area', \"Area\")", ("Ward", "Area")),
        ('list_transform(string_split("a", \',\'), lambda item: item || "b")[1]', ("a", "b")),
        ('case when "a" is null then \'Open\' else "b" end -- why', ("a", "b")),
        ("try_strptime(\"d\", '%d-%b-%y')::date", ("d",)),
        ('"a""b"', ('a"b',)),
        ('coalesce("Ward", "ward", "_")', ("Ward", "ward", "_")),
    ],
)
def test_expressions_name_their_columns(expression, columns):
    assert source_columns(expression) == columns


@pytest.mark.parametrize(
    ("expression", "message"),
    [
        ('"a"; drop table t', "holds a `;`"),
        ("coalesce(", "cannot parse"),
        ("", "cannot parse"),
        ('"a") from t where (true', "cannot parse"),
        ('"a"), ("b"', "more than one expression"),
        ('"a") as value, (1', "more than one expression"),
        ("select 1", "elsewhere"),
        ("(select max(\"a\") from read_csv('/etc/hosts'))", "elsewhere"),
        ("exists (select 1)", "elsewhere"),
        ('lag("a") over ()', "looks at other rows"),
        ('count("a")', "DuckDB refuses it over text columns"),
        ('"a" + 1 || no_such_function("a")', "DuckDB refuses it"),
        ('date_trunc(\'day\', "a" + "b")', "DuckDB refuses it"),
        ("columns(*)", "names all columns"),
        ("now()", "another answer each time"),
        ('"a" || random()', "another answer each time"),
        ("current_date", "another answer each time"),
        ("t.a", "not a column name"),
        ("?", "placeholder"),
    ],
)
def test_what_is_not_one_expression_over_one_row_is_refused(expression, message):
    with pytest.raises(ExpressionError, match=message) as raised:
        source_columns(expression)
    assert "; " in str(raised.value), "there is a remedy"


@settings(max_examples=60, deadline=None)
@given(name=st.text(min_size=1).filter(lambda text: "\0" not in text and ";" not in text))
@example('"')
@example("a\nb -- c")
def test_a_quoted_name_is_read_back_as_the_one_column_it_names(name):
    assert source_columns(quoted(name)) == (name,)


@settings(max_examples=60, deadline=None)
@given(text=st.text().filter(lambda text: "\0" not in text))
@example("it's; -- \\")
def test_a_literal_is_the_text_it_was_made_of(text):
    assert duckdb.execute(f"select {literal(text)}").fetchone() == (text,)


@settings(max_examples=60, deadline=None)
@given(expression=st.text(alphabet="ab\"'();,.*-/ \n1select from|", max_size=25))
def test_any_text_is_an_expression_that_runs_or_is_refused(expression):
    try:
        columns = source_columns(expression)
    except ExpressionError:
        return
    row = ", ".join(f"'1' as {quoted(name)}" for name in dict.fromkeys(columns)) or "1 as nothing"
    answer = duckdb.sql(f"select ({expression}\n), 7 as beside from (select {row})")
    assert answer.columns[1:] == ["beside"]

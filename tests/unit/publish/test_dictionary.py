import pytest

from assets.publish.dictionary import Column, DictionaryError, field_type, read_extracts


def test_terms_view_and_columns_come_from_the_manifest(workshop):
    (extract,) = read_extracts(workshop.write_manifest())
    assert (extract.schema, extract.view) == ("open_data", "requests")
    assert extract.terms.licence.name == "CC0-1.0"
    assert extract.terms.primary_key == ("event_key",)
    assert extract.columns[1] == Column("source_id", "What source_id means."), (
        "cleared by `meta` beside `config`"
    )
    names = [column.name for column in extract.columns]
    assert "hidden" not in names, 'the text "true" clears nothing'
    assert "is_simulated" not in names


@pytest.mark.parametrize(
    ("licence", "expected"),
    [
        ("CC0-1.0", {"name": "CC0-1.0"}),
        ("https://example.org/terms", {"path": "https://example.org/terms"}),
        ({"name": "PDDL-1.0", "title": "Public domain"}, {"name": "PDDL-1.0", "title": "Public domain"}),
    ],
)
def test_licences_may_be_ids_addresses_or_both(workshop, licence, expected):
    workshop.terms["licence"] = licence
    (extract,) = read_extracts(workshop.write_manifest())
    assert extract.terms.licence.model_dump(exclude_none=True) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"licence": "Public domain, mostly"}, "extract.licence.name"),
        ({"licence": {"title": "Public domain"}}, "extract.licence"),
        ({"dataset": "../requests"}, "extract.dataset"),
        ({"title": ""}, "extract.title"),
        ({"primary_key": []}, "extract.primary_key"),
        ({"colour": "blue"}, "extract.colour: Extra inputs"),
    ],
)
def test_wrong_terms_name_exposure_and_key(workshop, change, message):
    workshop.terms.update(change)
    with pytest.raises(DictionaryError, match=f"exposure requests_extract, config.meta.{message}"):
        read_extracts(workshop.write_manifest())


def test_a_published_column_needs_a_description(workshop):
    workshop.column("city")["description"] = " "
    with pytest.raises(DictionaryError, match=r"requests\.city needs a description"):
        read_extracts(workshop.write_manifest())


def test_missing_and_broken_manifests_are_explained(workshop):
    with pytest.raises(DictionaryError, match="there is no dbt manifest"):
        read_extracts(workshop.manifest_path)
    workshop.manifest_path.write_text("{", encoding="utf-8")
    with pytest.raises(DictionaryError, match="not a dbt manifest"):
        read_extracts(workshop.manifest_path)
    workshop.manifest_path.write_text('{"exposures": {}}', encoding="utf-8")
    with pytest.raises(DictionaryError, match="nothing can be published"):
        read_extracts(workshop.manifest_path)


@pytest.mark.parametrize(
    ("name", "duckdb_type", "expected"),
    [
        ("a", "DECIMAL(18,3)", "number"),
        ("a", "ENUM('x', 'y')", "string"),
        ("a_at", "TIMESTAMP", "datetime"),
        ("a", "TIMESTAMP WITH TIME ZONE", "datetime"),
    ],
)
def test_field_types(name, duckdb_type, expected):
    assert field_type("v", name, duckdb_type) == expected


@pytest.mark.parametrize(
    "duckdb_type", ["INTEGER[]", "DECIMAL(18,3)[]", "STRUCT(a INTEGER)", "BLOB", "INTERVAL"]
)
def test_types_a_csv_cannot_carry_are_refused(duckdb_type):
    with pytest.raises(DictionaryError, match="cannot go into a CSV"):
        field_type("v", "a", duckdb_type)


def test_a_time_of_unknown_zone_is_refused():
    with pytest.raises(DictionaryError, match="must end in _at"):
        field_type("v", "opened", "TIMESTAMP")


def test_the_project_declares_extracts_that_can_be_read(parsed_home):
    extracts = read_extracts(parsed_home / "dbt" / "parsed" / "manifest.json")
    assert "service_requests" in {extract.terms.dataset for extract in extracts}
    assert {extract.schema for extract in extracts} == {"open_data"}
    assert all(extract.columns for extract in extracts)

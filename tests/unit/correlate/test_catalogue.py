"""The catalogue of questions as it is read before any warehouse is there."""

import pytest

from assets.correlate.catalogue import CatalogueError, CatalogueRow, read_catalogue

HEAD = "question_id,title,signal_cluster_size\n"


def test_rows_come_in_order_with_what_is_known_of_them(tmp_path):
    path = tmp_path / "questions.csv"
    path.write_text(HEAD + 'b_2,"Two, of them",\na_1,,3\n', encoding="utf-8")
    assert read_catalogue(path) == [
        CatalogueRow("b_2", "Two, of them", is_cluster=False),
        CatalogueRow("a_1", "a_1", is_cluster=True),
    ]


def test_the_shipped_catalogue_can_be_read():
    assert len(read_catalogue()) > 10


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ("../evil,x,\n", "row 3: question_id '../evil' is no name"),
        ("Upper,x,\n", "row 3: question_id 'Upper' is no name"),
        (",x,\n", "row 3: question_id '' is no name"),
        ("a_1,x,\n", "row 3: question_id 'a_1' is the name of a row above"),
    ],
)
def test_a_name_that_cannot_name_a_file_is_refused_with_its_row(tmp_path, row, why):
    path = tmp_path / "questions.csv"
    path.write_text(HEAD + "a_1,A,\n" + row, encoding="utf-8")
    with pytest.raises(CatalogueError) as caught:
        read_catalogue(path)
    assert str(caught.value).startswith(f"{path}, {why}")

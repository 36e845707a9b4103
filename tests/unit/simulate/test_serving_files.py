"""Files over HTTP: sent once, then only when they have changed."""

from datetime import timedelta

import httpx2
import pytest

from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Store

CONTENT = b"id,note\n" + b"1,pothole\n" * 200


@pytest.fixture
def store():
    made = Store()
    made.add_file("permits.csv", CONTENT)
    return made


@pytest.fixture
def client(store):
    with serve(store) as base, httpx2.Client(base_url=base) as made:
        yield made


def test_a_file_comes_whole_with_its_tag_and_time(client):
    answer = client.get("/files/permits.csv")
    assert answer.content == CONTENT
    assert answer.headers["content-encoding"] == "gzip"
    assert answer.headers["last-modified"] == "Mon, 02 Mar 2026 12:00:00 GMT"
    assert answer.headers["etag"].startswith('"')


def test_who_has_it_is_told_so_until_it_changes(client, store):
    has = {"If-None-Match": client.get("/files/permits.csv").headers["etag"]}
    answer = client.get("/files/permits.csv", headers=has)
    assert (answer.status_code, answer.content) == (304, b"")
    store.add_file("permits.csv", CONTENT + b"2,sidewalk\n")
    assert client.get("/files/permits.csv", headers=has).status_code == 200


def test_a_time_serves_where_no_tag_is_named(client, store):
    since = {"If-Modified-Since": client.get("/files/permits.csv").headers["last-modified"]}
    assert client.get("/files/permits.csv", headers=since).status_code == 304
    # A tag says more than a time: another one means other bytes.
    assert client.get("/files/permits.csv", headers=since | {"If-None-Match": '"x"'}).status_code == 200
    store.advance(timedelta(days=1))
    store.add_file("permits.csv", CONTENT)
    assert client.get("/files/permits.csv", headers=since).status_code == 200


def test_a_file_on_disk_is_read_at_every_request(client, store, tmp_path):
    path = tmp_path / "a.csv.gz"
    path.write_bytes(b"\x1f\x8b" + b"x" * 1000)
    store.add_file("2026/a.csv.gz", path)
    first = client.get("/files/2026/a.csv.gz")
    assert first.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in first.headers
    assert first.content == path.read_bytes()
    path.write_bytes(b"other")
    assert client.get("/files/2026/a.csv.gz").content == b"other"
    path.unlink()
    assert client.get("/files/2026/a.csv.gz").status_code == 404


def test_an_unknown_file_is_not_found(client):
    assert client.get("/files/none.csv").status_code == 404
    assert client.get("/files/../permits.csv").status_code == 404

import contextlib
import gzip
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from assets.ingest.part import Part
from assets.ingest.portals import files
from assets.ingest.portals.wire import Wire
from assets.ingest.receipts import DeliveryError

BODY = b"id,what\n1,a\n" * 50


@contextlib.contextmanager
def portal(*answers):
    """Serve answers in turn, the last one for ever; yields the address and the requests' headers.

    An answer is (status, headers, body); a header Content-Length may lie.
    """
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            status, headers, body = answers[min(len(seen), len(answers) - 1)]
            seen.append(dict(self.headers))
            self.send_response(status)
            for name, value in ({"Content-Length": str(len(body))} | headers).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", seen
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")


def fetch(source, folder, **kwargs):
    part = Part(id="one", source=str(source), format="csv")
    return files.fetch(part, folder, Wire(attempts=3, first_wait_seconds=0.001), **kwargs)


def test_a_plain_file_is_stored_gzipped_and_hashed(tmp_path):
    source = tmp_path / "calls.csv"
    source.write_bytes(BODY)
    (tmp_path / "to").mkdir()
    fetched = fetch(source, tmp_path / "to")
    assert fetched.path.name == "one.csv.gz"
    assert gzip.decompress(fetched.path.read_bytes()) == BODY
    assert (fetched.sha, fetched.size_bytes) == (hashlib.sha256(BODY).hexdigest(), len(BODY))


def test_a_gzip_is_stored_as_it_is(tmp_path):
    source = tmp_path / "calls.csv.gz"
    source.write_bytes(gzip.compress(BODY))
    (tmp_path / "to").mkdir()
    fetched = fetch(source, tmp_path / "to")
    assert fetched.path.read_bytes() == source.read_bytes()
    assert fetched.sha == hashlib.sha256(source.read_bytes()).hexdigest()


def test_the_stored_name_never_comes_from_the_source(tmp_path):
    with portal((200, {}, BODY)) as (address, _):
        fetched = fetch(f"{address}/..%2f..%2fevil.exe?name=../x.sh", tmp_path)
    assert fetched.path == tmp_path / "one.csv.gz"


def test_the_same_bytes_make_the_same_file(tmp_path):
    source = tmp_path / "calls.csv"
    source.write_bytes(BODY)
    assert fetch(source, tmp_path).path.read_bytes() == fetch(source, tmp_path).path.read_bytes()


@pytest.mark.parametrize("make", [lambda p: None, lambda p: p.mkdir(), lambda p: p.touch()])
def test_a_path_without_bytes_is_an_error(tmp_path, make):
    source = tmp_path / "calls.csv"
    make(source)
    (tmp_path / "to").mkdir()
    with pytest.raises(DeliveryError, match=r"calls\.csv"):
        fetch(source, tmp_path / "to")
    assert list((tmp_path / "to").iterdir()) == []


def test_what_the_server_says_of_its_bytes_is_kept(tmp_path):
    headers = {"ETag": '"v1"', "Last-Modified": "Sat, 21 Nov 2026 00:00:00 GMT"}
    with portal((200, headers, BODY)) as (address, _):
        fetched = fetch(f"{address}/calls.csv", tmp_path)
    assert (fetched.etag, fetched.last_modified) == tuple(headers.values())
    assert gzip.decompress(fetched.path.read_bytes()) == BODY


def test_a_conditional_get_may_bring_nothing(tmp_path):
    with portal((304, {}, b"")) as (address, seen):
        fetched = fetch(f"{address}/calls.csv", tmp_path, etag='"v1"', last_modified="yesterday")
    assert (fetched.path, fetched.etag) == (None, '"v1"')
    assert (seen[0]["If-None-Match"], seen[0]["If-Modified-Since"]) == ('"v1"', "yesterday")


def test_compressed_transfer_is_undone(tmp_path):
    with portal((200, {"Content-Encoding": "gzip"}, gzip.compress(BODY))) as (address, _):
        fetched = fetch(f"{address}/calls.csv", tmp_path)
    assert fetched.sha == hashlib.sha256(BODY).hexdigest()


@pytest.mark.parametrize("status", [202, 429, 500, 503])
def test_a_busy_server_is_asked_again(tmp_path, status):
    with portal((status, {"Retry-After": "0"}, b"wait"), (200, {}, BODY)) as (address, seen):
        fetched = fetch(f"{address}/calls.csv", tmp_path)
    assert len(seen) == 2
    assert fetched.size_bytes == len(BODY)


def test_retries_end_in_an_error_not_in_an_empty_success(tmp_path):
    with portal((503, {}, b"")) as (address, seen), pytest.raises(DeliveryError, match="HTTP 503"):
        fetch(f"{address}/calls.csv", tmp_path)
    assert len(seen) == 3
    assert list(tmp_path.iterdir()) == []


def test_a_cut_body_is_fetched_again_and_then_an_error(tmp_path):
    cut = (200, {"Content-Length": str(len(BODY) + 5)}, BODY)
    with portal(cut, (200, {}, BODY)) as (address, seen):
        assert fetch(f"{address}/calls.csv", tmp_path).size_bytes == len(BODY)
        assert len(seen) == 2
    (tmp_path / "one.csv.gz").unlink()
    with (
        portal(cut) as (address, _),
        pytest.raises(DeliveryError, match=r"no complete answer in 3 attempts \(the answer broke off\)"),
    ):
        fetch(f"{address}/calls.csv", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_server_that_says_no_is_asked_once_and_secrets_stay_secret(tmp_path):
    with portal((403, {}, b"no")) as (address, seen), pytest.raises(DeliveryError) as caught:
        fetch(f"{address.replace('://', '://me:pass@')}/calls.csv?token=abc", tmp_path)
    assert len(seen) == 1
    assert "HTTP 403" in str(caught.value)
    assert "/calls.csv?…" in str(caught.value)
    assert "abc" not in str(caught.value)
    assert "pass" not in str(caught.value)


def test_nobody_at_the_address(tmp_path):
    with portal((200, {}, BODY)) as (address, _):
        pass
    with pytest.raises(DeliveryError, match="nobody answers there") as caught:
        fetch(f"{address}/calls.csv", tmp_path)
    assert caught.value.error_type == "SourceUnreachable"


def test_an_empty_answer_is_an_error(tmp_path):
    with portal((200, {}, b"")) as (address, _), pytest.raises(DeliveryError, match="0 bytes"):
        fetch(f"{address}/calls.csv", tmp_path)

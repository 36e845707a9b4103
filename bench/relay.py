"""Measures how long a flood takes from its portal to the agencies while the bulk job runs, all in Dagster.

A simulated city is generated, landed and built; its portals are served from this process, whose clock then
follows the wall. Dagster's daemon is started over the home with the sensors of the simulated city turned on,
and the main job is run beside it, anew whenever it ends. Floods appear at the Open311 portal one by one; a
receiver on the loopback notes when the message of each agency arrives, signed. What is printed are seconds
from the moment at which the portal has the record to the moment at which the receiver has the message.
"""

import argparse
import hashlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from assets.relay.signatures import verify
from assets.simulate.city import simulate
from assets.simulate.serving.city import open_city
from assets.simulate.serving.server import serve
from assets.simulate.serving.store import Store

ROOT = Path(__file__).parents[1]
SECRET = "only-for-the-benchmark-5Kq"  # noqa: S105  of a receiver on the loopback
SENSORS = ("fast_lane_simulated", "agency_alerts_simulated")
#: In the city, and so far apart that none is taken for another report of the flood before it.
WEST, SOUTH, EAST, NORTH = -87.30, 42.14, -87.12, 42.27
APART_DEGREES = 0.012
LARGEST_P95_SECONDS = 60.0


class Receiver:
    """Notes when each agency was first told of each report, and whether a message came twice."""

    def __init__(self) -> None:
        self.came: dict[str, dict[str, float]] = {}
        self.repeats = 0
        self._taken: set[str] = set()

    def take(self, headers: dict[str, str], body: bytes) -> None:
        """Note a message that is signed."""
        at = time.time()
        name = verify(SECRET, headers, body)
        if name in self._taken:
            self.repeats += 1
            return
        self._taken.add(name)
        said = json.loads(body)
        for key in said["event_keys"]:
            self.came.setdefault(key, {}).setdefault(said["agency"], at)


@contextmanager
def receiving(receiver: Receiver) -> Iterator[str]:
    """Serve a receiver and yield its address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            receiver.take(dict(self.headers), self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(204)
            self.end_headers()

        def log_message(self, *said: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/alerts"
    finally:
        server.shutdown()
        server.server_close()


def wall() -> datetime:
    """Return now as a store has it."""
    return datetime.now(UTC).replace(tzinfo=None)


def follow_the_wall(store: Store) -> None:
    """Let a store's clock go with this machine's from now on."""

    def follow() -> None:
        while True:
            store.now = wall()
            time.sleep(0.05)

    # Its newest 90 days are those at the end of the simulation.
    store.find("open311", "requests").count()
    store.now = wall()
    threading.Thread(target=follow, daemon=True).start()


def spots(count: int) -> list[tuple[float, float]]:
    """Return places of floods, lon and lat."""
    across, along = int((EAST - WEST) / APART_DEGREES), int((NORTH - SOUTH) / APART_DEGREES)
    places = [
        (WEST + APART_DEGREES * column, SOUTH + APART_DEGREES * row)
        for column in range(across)
        for row in range(along)
    ]
    if count > len(places):
        raise SystemExit(f"the city has room for {len(places)} floods")
    return random.Random(311).sample(places, count)  # noqa: S311  the same floods in every run


def flood(store: Store, name: str, lon: float, lat: float) -> float:
    """Let a flood be reported, and return when the portal had it, Unix seconds."""
    at = wall()
    said = {
        "service_request_id": name,
        "service_name": "Water on Street",
        "service_code": "WOS",
        "status": "open",
        "agency_responsible": "Water Bureau",
        "requested_datetime": at,
        "updated_datetime": at,
        "lat": lat,
        "long": lon,
    }
    dataset = store.find("open311", "requests")
    known = {column.name for column in dataset.columns}
    dataset.insert([{key: value for key, value in said.items() if key in known}], at)
    return time.time()


def key_of(name: str) -> str:
    """Return the key of a report: it is that of the bulk feed, whose live tail the portal is."""
    return hashlib.md5(f"simulated\x1fservice_requests\x1f{name}".encode(), usedforsecurity=False).hexdigest()


class Beside:
    """The main job, run anew whenever it ends, as long as there are floods."""

    def __init__(self, environment: dict[str, str]) -> None:
        self.runs: list[str] = []
        self._started = time.monotonic()
        self._environment = environment
        self._process: subprocess.Popen | None = None
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._go_on, daemon=True)
        self._thread.start()

    def _go_on(self) -> None:
        while not self._is_over.is_set():
            self._started = time.monotonic()
            self._process = command(self._environment, "run", "--city", "simulated", "--full")
            code = self._process.wait()
            self.runs.append(f"{time.monotonic() - self._started:.0f} s (exit code {code})")

    def told(self) -> str:
        """Return which runs there were up to now, the one that is at work too."""
        return ", ".join([*self.runs, f"{time.monotonic() - self._started:.0f} s (still at work)"])

    def end(self) -> None:
        """Stop the job that is at work."""
        self._is_over.set()
        if self._process is not None and self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGINT)
        self._thread.join(120)


def command(environment: dict[str, str], *arguments: str) -> subprocess.Popen:
    """Start a command of the product in a group of its own."""
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-m", "orchestration.cli", *arguments],
        cwd=ROOT,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )


@contextmanager
def daemon(environment: dict[str, str], log: Path) -> Iterator[None]:
    """Run Dagster's daemon with the sensors of the simulated city turned on."""
    dagster = str(Path(sys.executable).with_name("dagster"))
    workspace = ["--workspace", str(ROOT / "workspace.yaml")]
    for sensor in SENSORS:
        subprocess.run(  # noqa: S603
            [dagster, "sensor", "start", sensor, *workspace],
            cwd=ROOT,
            env=environment,
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    with log.open("wb") as said:
        process = subprocess.Popen(  # noqa: S603
            [f"{dagster}-daemon", "run", *workspace],
            cwd=ROOT,
            env=environment,
            stdout=said,
            stderr=said,
            start_new_session=True,
        )
        try:
            yield
        finally:
            os.killpg(process.pid, signal.SIGINT)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)


def wait_for(is_so: Callable[[], bool], seconds: float) -> bool:
    """Return whether something became so in time."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if is_so():
            return True
        time.sleep(0.1)
    return False


def measure(store: Store, receiver: Receiver, floods: int, every: float) -> list[list[float]]:
    """Report floods, the first one a rehearsal, and return the seconds to each agency per flood."""
    places = spots(floods + 1)
    first = f"bench-{int(time.time())}"
    flood(store, f"{first}-rehearsal", *places[0])
    if not wait_for(lambda: key_of(f"{first}-rehearsal") in receiver.came, 300):
        raise SystemExit("the first flood reached nobody within five minutes; look at the daemon's log")
    begun = {}
    for number, place in enumerate(places[1:]):
        begun[f"{first}-{number}"] = flood(store, f"{first}-{number}", *place)
        time.sleep(every)
    wait_for(lambda: all(key_of(name) in receiver.came for name in begun), 180)
    time.sleep(5)
    return [
        [at - since for at in receiver.came.get(key_of(name), {}).values()] for name, since in begun.items()
    ]


def show(seconds: Sequence[Sequence[float]], receiver: Receiver, beside: str) -> bool:
    """Print what was measured and return whether it is good enough."""
    lost = sum(not each for each in seconds)
    every = sorted(one for each in seconds for one in each)
    print(f"floods {len(seconds)}, of these without a message {lost}")
    print(f"messages {len(every)}, repeats {receiver.repeats}")
    print(f"bulk job beside them: {beside}; load of the machine {os.getloadavg()[0]:.1f}")
    if not every:
        return False
    for name, told in (
        ("each message", every),
        ("last agency of a flood", sorted(max(each) for each in seconds if each)),
    ):
        p95 = told[min(len(told) - 1, int(0.95 * len(told)))]
        print(f"{name:24} p50 {statistics.median(told):5.1f} s   p95 {p95:5.1f} s   max {told[-1]:5.1f} s")
    return lost == 0 and every[min(len(every) - 1, int(0.95 * len(every)))] < LARGEST_P95_SECONDS


def main() -> int:
    """Measure and print; return 0 where the 95th percentile is under a minute and no flood was lost."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--floods", type=int, default=50)
    parser.add_argument("--every", type=float, default=6.0, help="seconds between two floods")
    parser.add_argument("--scale", type=float, default=1.0, help="size of the simulated city")
    parser.add_argument("--alone", action="store_true", help="without the bulk job beside")
    parser.add_argument("--home", type=Path, help="a folder to keep; what is built there is used again")
    said = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="relay-") as work:
        home = (said.home or Path(work)).resolve()
        simulate(home / "simulated", scale=said.scale)
        store, receiver = open_city(home / "simulated"), Receiver()
        with serve(store) as base, receiving(receiver) as url:
            follow_the_wall(store)
            subscriptions = home / "subscriptions.yaml"
            declared = {"id": "bench", "url": url, "secret_env": "BENCH_SECRET"}
            subscriptions.write_text(json.dumps({"subscriptions": [declared]}), encoding="utf-8")
            kept = {
                name: value
                for name, value in os.environ.items()
                if not name.startswith(("CITYSIGNAL", "DAGSTER"))
            }
            environment = kept | {
                "CITYSIGNAL_HOME": str(home),
                "CITYSIGNAL_SIMULATED_PORTAL": base,
                "CITYSIGNAL_SUBSCRIPTIONS": str(subscriptions),
                "BENCH_SECRET": SECRET,
                "DAGSTER_HOME": str(home / "dagster"),
                "NO_PROXY": "127.0.0.1",
                "DO_NOT_TRACK": "1",
            }
            is_built = (home / "warehouse" / "published" / "warehouse.duckdb").is_file()
            if not is_built and command(environment, "run", "--city", "simulated").wait():
                raise SystemExit("the first run failed; run `citysignal run --city simulated` to see why")
            with daemon(environment, home / "daemon.log"):
                beside = None if said.alone else Beside(environment)
                try:
                    seconds = measure(store, receiver, said.floods, said.every)
                finally:
                    told = "none" if beside is None else beside.told()
                    if beside is not None:
                        beside.end()
                return 0 if show(seconds, receiver, told) else 1


if __name__ == "__main__":
    sys.exit(main())

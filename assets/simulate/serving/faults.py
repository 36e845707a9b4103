"""What a simulated portal is to do wrong, and how often; the doing is the server's and the protocols'."""

import threading
from dataclasses import dataclass
from typing import Any

#: `on` of a fault that meets every kind of request.
ANY = "any"


@dataclass
class Fault:
    """One fault that waits for its requests; `after` and `times` count down."""

    kind: str
    on: str
    protocol: str | None
    times: int | None
    after: int
    args: dict[str, Any]

    def meets(self, kind: str, protocol: str, on: str) -> bool:
        """Tell whether it is meant by this request and not used up."""
        return (
            self.kind == kind
            and self.protocol in (None, protocol)
            and self.on in (ANY, on)
            and (self.times is None or self.times > 0)
        )


class Faults:
    """The faults of one store. Safe to use from several threads."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(
        self,
        kind: str,
        *,
        on: str = "page",
        protocol: str | None = None,
        times: int | None = 1,
        after: int = 0,
        **args: Any,
    ) -> None:
        """Switch a fault on.

        Args:
            kind: Such as `status` or `reset`; the server's and the protocols' modules name them.
            on: Kind of request it meets: `meta`, `count`, `months`, `page`, `ids`, `file`, or `any`.
            protocol: The one it meets; nothing: all.
            times: How many requests it spoils; nothing: all from then on.
            after: How many requests of its sort pass unharmed before.
            args: What the fault needs to know, such as `code=429`.
        """
        with self._lock:
            self._faults.append(Fault(kind, on, protocol, times, after, args))

    def take(self, kind: str, protocol: str, on: str) -> dict[str, Any] | None:
        """Use up one fault for a request and return its arguments; nothing where none applies.

        Every fault that still waits (`after`) counts this request, so that waits run side by side.
        """
        with self._lock:
            met = [fault for fault in self._faults if fault.meets(kind, protocol, on)]
            ready = next((fault for fault in met if fault.after == 0), None)
            for fault in met:
                fault.after = max(0, fault.after - 1)
            if ready is None:
                return None
            if ready.times is not None:
                ready.times -= 1
            return ready.args

    def clear(self) -> None:
        """Switch all faults off."""
        with self._lock:
            self._faults.clear()

    def kinds(self, protocol: str) -> set[str]:
        """Return the kinds of faults that may yet spoil a request of a protocol."""
        with self._lock:
            return {
                fault.kind
                for fault in self._faults
                if fault.protocol in (None, protocol) and (fault.times is None or fault.times > 0)
            }

"""How much the service has done, as Prometheus reads it; nothing about any patient."""

import threading
from collections import Counter
from typing import Literal

MEDIA_TYPE = "text/plain; version=0.0.4; charset=utf-8"
Outcome = Literal["answered", "failed"]
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}


class Counts:
    """Requests, cases and seconds since the start."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, str, int]] = Counter()
        self._seconds: Counter[str] = Counter()
        self._cases: Counter[Outcome] = Counter({"answered": 0, "failed": 0})

    def request(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count a request; `route` is one of the service's own, so that there are few of them."""
        with self._lock:
            self._requests[route, method if method in _METHODS else "other", status] += 1
            # mypy knows Counters of whole numbers only.
            self._seconds[route] += seconds  # type: ignore[assignment]  # as said above

    def cases(self, outcome: Outcome, number: int = 1) -> None:
        """Count cases."""
        with self._lock:
            self._cases[outcome] += number

    def text(self) -> str:
        """Return all counts in Prometheus's text format."""
        with self._lock:
            requests, cases = sorted(self._requests.items()), sorted(self._cases.items())
            seconds = sorted(self._seconds.items())
        routes: Counter[str] = Counter()
        for (route, _, _), number in requests:
            routes[route] += number
        lines = [
            "# HELP gsco_requests_total Requests by route, method and status.",
            "# TYPE gsco_requests_total counter",
            *(
                f'gsco_requests_total{{route="{route}",method="{method}",status="{status}"}} {n}'
                for (route, method, status), n in requests
            ),
            "# HELP gsco_request_seconds Wall time of requests by route.",
            "# TYPE gsco_request_seconds summary",
        ]
        for route, spent in seconds:
            lines.append(f'gsco_request_seconds_sum{{route="{route}"}} {spent:.6f}')
            lines.append(f'gsco_request_seconds_count{{route="{route}"}} {routes[route]}')
        lines += [
            "# HELP gsco_cases_total Cases by whether they got an answer.",
            "# TYPE gsco_cases_total counter",
            *(f'gsco_cases_total{{outcome="{outcome}"}} {n}' for outcome, n in cases),
        ]
        return "\n".join(lines) + "\n"

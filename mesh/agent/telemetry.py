"""For Envoy: reads the telemetry log from its pipe and serves Istio's metrics beside Envoy's own on port 15020."""

import http.client
import os
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from mesh.agent.bootstrap import ADMIN_PORT, STATUS_PORT
from mesh.agent.report import say
from mesh.agent.settings import TELEMETRY_PIPE, Settings
from mesh.telemetry.metrics import IstioMetrics
from mesh.telemetry.records import UNKNOWN, Workload, read_record

_PAGE = "/stats/prometheus"


def serve(settings: Settings) -> None:
    """Does not return."""
    metrics, lock = IstioMetrics(), threading.Lock()
    server = _Server(settings, metrics, lock)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    _read(own_workload(settings), metrics, lock)


def own_workload(settings: Settings) -> Workload:
    """The pod's own half of every label set. Source: Istio's canonical service and revision labels."""
    labels = settings.metadata.get("LABELS") or {}
    workload = str(settings.metadata.get("WORKLOAD_NAME", settings.pod))
    app, version = labels.get("app", UNKNOWN), labels.get("version", UNKNOWN)
    return Workload(
        workload=workload,
        namespace=settings.namespace,
        canonical_service=labels.get("service.istio.io/canonical-name", labels.get("app", workload)),
        canonical_revision=labels.get("service.istio.io/canonical-revision", labels.get("version", "latest")),
        cluster=str(settings.metadata.get("CLUSTER_ID", UNKNOWN)),
        app=app,
        version=version,
        principal=settings.identity,
    )


def _read(own: Workload, metrics: IstioMetrics, lock: threading.Lock) -> None:
    """Opens both ends, so that the pipe has a reader before Envoy starts and does not end when Envoy does."""
    with os.fdopen(os.open(TELEMETRY_PIPE, os.O_RDWR), encoding="utf-8", errors="replace") as lines:
        for line in lines:
            try:
                record = read_record(line, own)
            except ValueError as error:
                say("error", f"a line of the telemetry log cannot be read: {error}")
                continue
            with lock:
                metrics.add(record)


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, settings: Settings, metrics: IstioMetrics, lock: threading.Lock) -> None:
        super().__init__((settings.admin_address, STATUS_PORT), _Handler)
        self._admin = settings.admin_address
        self._metrics = metrics
        self._lock = lock

    def page(self) -> bytes:
        """Raises OSError or HTTPException when Envoy does not answer."""
        connection = http.client.HTTPConnection(self._admin, ADMIN_PORT, timeout=5.0)
        try:
            connection.request("GET", _PAGE)
            envoy = connection.getresponse().read()
        finally:
            connection.close()
        with self._lock:
            return envoy + self._metrics.prometheus().encode()


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        if self.path != _PAGE:
            return self._answer(404, b"not found\n")
        try:
            return self._answer(200, self.server.page())
        except (OSError, http.client.HTTPException) as error:
            return self._answer(503, f"envoy's admin page does not answer: {error}\n".encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - scrapes are not worth a log line
        return

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

"""From a case file's fragment to a whole Envoy v3 bootstrap: addresses, admin, access log and boilerplate."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from harness.case import CaseError
from harness.pki import tls_context

ADMIN_PORT, LISTENER_PORT, UPSTREAM_PORT = 15000, 10000, 9080
# The default of Istio's mesh configuration (accessLogFormat).
ISTIO_FORMAT = (
    '[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% '
    '%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% '
    '%BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" '
    '"%REQ(X-REQUEST-ID)%" "%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% '
    "%DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%\n"
)
NOBODY = "nobody"
MARK = "passed"  # the field that names a log filter which let a request through

HCM = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
LOG_FIELDS = {
    "client": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%",
    "remote": "%DOWNSTREAM_REMOTE_ADDRESS%",
    "method": "%REQ(:METHOD)%",
    "path": "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
    "protocol": "%PROTOCOL%",
    "status": "%RESPONSE_CODE%",
    "flags": "%RESPONSE_FLAGS%",
    "details": "%RESPONSE_CODE_DETAILS%",
    "termination": "%CONNECTION_TERMINATION_DETAILS%",
    "tls_failure": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    "received": "%BYTES_RECEIVED%",
    "sent": "%BYTES_SENT%",
    "duration": "%DURATION%",
    "service_time": "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    "forwarded_for": "%REQ(X-FORWARDED-FOR)%",
    "user_agent": "%REQ(USER-AGENT)%",
    "request_id": "%REQ(X-REQUEST-ID)%",
    "authority": "%REQ(:AUTHORITY)%",
    "upstream_host": "%UPSTREAM_HOST%",
    "cluster": "%UPSTREAM_CLUSTER_RAW%",
    "upstream_local": "%UPSTREAM_LOCAL_ADDRESS%",
    "listener_address": "%DOWNSTREAM_LOCAL_ADDRESS%",
    "sni": "%REQUESTED_SERVER_NAME%",
    "route": "%ROUTE_NAME%",
}


@dataclass
class Frame:
    """A bootstrap and where its parts are: `upstreams` and `listeners` map names to (address, port)."""

    block: str
    directory: Path
    certificates: Path
    upstreams: dict[str, tuple[str, int]] = field(default_factory=dict)
    listeners: dict[str, tuple[str, int]] = field(default_factory=dict)

    @property
    def access_log(self) -> Path:
        return self.directory / "access.jsonl"

    @property
    def text_log(self) -> Path:
        return self.directory / "access.log"

    @property
    def connection_log(self) -> Path:
        return self.directory / "connections.log"

    def build(self, fragment: Mapping[str, Any]) -> dict[str, Any]:
        """The bootstrap of a case file, remembering the addresses it gave out."""
        fragment = dict(fragment)
        fragment.pop("upstreams", None)
        more = fragment.pop("bootstrap", {})
        files = fragment.pop("files", None)
        listeners = fragment.pop("listeners", None)
        clusters = [self._cluster(name, value) for name, value in fragment.pop("clusters", {}).items()]
        if listeners is None:
            listeners, fragment = {"main": fragment}, {}
        if fragment:
            raise CaseError(f"unknown keys in a case file: {sorted(fragment)}")
        resources = {
            "listeners": [self._listener(name, value) for name, value in listeners.items()],
            "clusters": clusters,
        }
        if files is not None:
            self._write_files(files, resources)
            sources = {
                kind: {"path_config_source": {"path": str(self.directory / f"{kind}.json")}}
                for kind in ("listeners", "clusters")
            }
            dynamic = {"lds_config": sources["listeners"], "cds_config": sources["clusters"]}
            resources, more = {}, {"dynamic_resources": dynamic, **more}
        return {
            "node": {"id": "conformance", "cluster": "conformance"},
            "admin": {"address": socket_address(f"{self.block}.1", ADMIN_PORT)},
            "static_resources": resources,
            **more,
        }

    def _write_files(self, files: Mapping[str, Any], resources: Mapping[str, Any]) -> None:
        """Listeners, clusters and route configurations as files for discovery, each replaced by rename."""
        types = {"listeners": "listener.v3.Listener", "clusters": "cluster.v3.Cluster"}
        typed_by_file = {
            kind: [{"@type": f"type.googleapis.com/envoy.config.{types[kind]}", **each} for each in messages]
            for kind, messages in resources.items()
        }
        routes = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
        typed_by_file |= {name: [{"@type": routes, "name": name, **each}] for name, each in files.items()}
        for name, messages in typed_by_file.items():
            fresh = self.directory / f".{name}.fresh"
            fresh.write_text(json.dumps({"version_info": "1", "resources": messages}))
            fresh.rename(self.directory / f"{name}.json")

    def _cluster(self, name: str, value: Any) -> dict[str, Any]:
        value = {"endpoints": value} if isinstance(value, list) else dict(value)
        assigned = self._assignment(name, value)
        tls = value.pop("tls", None)
        cluster = {
            "name": name,
            "connect_timeout": "1s",
            "type": "STATIC",
            **assigned,
            **value,
        }
        if tls is not None:
            cluster["transport_socket"] = self._tls(tls, upstream=True)
        for match in cluster.get("transport_socket_matches", []):
            if "tls" in match:
                match["transport_socket"] = self._tls(match.pop("tls"), upstream=True)
        return cluster

    def _assignment(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        if not value.keys() & {"localities", "endpoints"}:
            return {}
        localities = value.pop("localities", None) or [{"endpoints": value.pop("endpoints")}]
        endpoints = [self._locality(each) for each in localities]
        return {"load_assignment": {"cluster_name": name, "endpoints": endpoints, **value.pop("assignment", {})}}

    def _locality(self, value: Mapping[str, Any]) -> dict[str, Any]:
        value = dict(value)
        return {"lb_endpoints": [self._endpoint(endpoint) for endpoint in value.pop("endpoints")], **value}

    def _endpoint(self, value: Any) -> dict[str, Any]:
        extra = {} if isinstance(value, str) else dict(value)
        name = value if isinstance(value, str) else extra.pop("upstream")
        if name not in self.upstreams:
            self.upstreams[name] = (f"{self.block}.{10 + len(self.upstreams)}", UPSTREAM_PORT)
        endpoint = {"address": socket_address(*self.upstreams[name]), **extra.pop("endpoint", {})}
        return {"endpoint": endpoint, **extra}

    def _listener(self, name: str, value: Mapping[str, Any]) -> dict[str, Any]:
        value = dict(value)
        self.listeners.setdefault(name, (f"{self.block}.1", LISTENER_PORT + len(self.listeners)))
        extra = value.pop("listener", {})
        if filters := value.pop("listener_filters", None):
            extra = {**extra, "listener_filters": [listener_filter(each) for each in filters]}
        if default := value.pop("default_chain", None):
            extra = {**extra, "default_filter_chain": self._chain(name, dict(default))}
        if text := value.pop("connection_log", None):
            lines = {"text_format_source": {"inline_string": f"%DOWNSTREAM_DIRECT_REMOTE_ADDRESS% {text}\n"}}
            extra = {**extra, "access_log": [self._file(self.connection_log, lines)]}
        chains = value.pop("chains", None) or [value]
        return {
            "name": name,
            "address": socket_address(*self.listeners[name]),
            "filter_chains": [self._chain(name, dict(chain)) for chain in chains],
            **extra,
        }

    def _chain(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        chain: dict[str, Any] = {}
        if match := value.pop("match", None):
            chain["filter_chain_match"] = match
        chain |= value.pop("chain", {})
        if tls := value.pop("tls", None):
            chain["transport_socket"] = self._tls(tls, upstream=False)
        before = [network_filter(kind, fields or {}) for kind, fields in value.pop("network", {}).items()]
        chain["filters"] = [*before, self._tcp_proxy(name, value) if "tcp" in value else self._http(name, value)]
        if value:
            raise CaseError(f"unknown keys in listener {name}: {sorted(value)}")
        return chain

    def _tcp_proxy(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        tcp, logs = value.pop("tcp"), self._log(value)
        fields = {"cluster": tcp} if isinstance(tcp, str) else tcp
        type_name = "envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy"
        return typed("envoy.filters.network.tcp_proxy", type_name, stat_prefix=name, access_log=logs, **fields)

    def _http(self, name: str, value: dict[str, Any]) -> dict[str, Any]:
        if rds := value.pop("rds", None):
            source = {"path_config_source": {"path": str(self.directory / f"{rds}.json")}, "resource_api_version": "V3"}
            routing: dict[str, Any] = {"rds": {"route_config_name": rds, "config_source": source}}
        else:
            hosts = value.pop("virtual_hosts", None) or [
                {"name": "all", "domains": ["*"], "routes": value.pop("routes")}
            ]
            routing = {"route_config": {"name": name, "virtual_hosts": hosts, **value.pop("route_config", {})}}
        filters = [
            http_filter(*each) for each in [*value.pop("filters", {}).items(), ("router", value.pop("router", {}))]
        ]
        return typed(
            "envoy.filters.network.http_connection_manager",
            HCM,
            stat_prefix=name,
            http_filters=filters,
            access_log=self._log(value),
            **routing,
            **value.pop("hcm", {}),
        )

    def _tls(self, tls: Mapping[str, Any], *, upstream: bool) -> dict[str, Any]:
        return tls_context(self.certificates, self.directory / "secrets", tls, upstream=upstream)

    def _log(self, value: dict[str, Any]) -> list[dict[str, Any]]:
        """The access logs: one JSON line a request, before it those of the listener's own `log_filters` by name, and
        the line of text. Whole access logs of other kinds, `log_services`, come first.
        """
        fields = {**LOG_FIELDS, **value.pop("log_fields", {})}
        options = value.pop("log_options", {})
        marks = [
            {
                **self._file(self.access_log, {"json_format": {"client": LOG_FIELDS["client"], MARK: name}}),
                "filter": rule,
            }
            for name, rule in value.pop("log_filters", {}).items()
        ]
        text = {"text_format_source": {"inline_string": value.pop("log_text", ISTIO_FORMAT)}}
        lines = self._file(self.access_log, {"json_format": fields, **options})
        services = [{"name": "service", **log} for log in value.pop("log_services", [])]
        return [*services, *marks, lines, self._file(self.text_log, {**text, **options})]

    def _file(self, path: Path, log_format: dict[str, Any]) -> dict[str, Any]:
        type_name = "envoy.extensions.access_loggers.file.v3.FileAccessLog"
        return typed("envoy.access_loggers.file", type_name, path=str(path), log_format=log_format)


def http_filter(name: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """An HTTP filter by its kind, or `kind/any name` where a chain has two of it; `with` are fields of HttpFilter."""
    kind, fields = name.partition("/")[0], dict(fields)
    around = fields.pop("with", {})
    names = {"fault": "HTTPFault", "jwt_authn": "JwtAuthentication", "local_ratelimit": "LocalRateLimit",
             "ratelimit": "RateLimit", "rbac": "RBAC"}  # fmt: skip
    type_name = names.get(kind) or kind.title().replace("_", "")
    made = typed(f"envoy.filters.http.{name}", f"envoy.extensions.filters.http.{kind}.v3.{type_name}", **fields)
    return {**made, **around}


def listener_filter(value: Any) -> dict[str, Any]:
    """A listener filter by its short name, or as {short name: fields}."""
    kind, fields = (value, {}) if isinstance(value, str) else next(iter(value.items()))
    name = kind.title().replace("_", "")
    return typed(
        f"envoy.filters.listener.{kind}", f"envoy.extensions.filters.listener.{kind}.v3.{name}", **(fields or {})
    )


def network_filter(kind: str, fields: Mapping[str, Any]) -> dict[str, Any]:
    """A network filter by its short name."""
    name = {"rbac": "RBAC"}.get(kind) or kind.title().replace("_", "")
    return typed(f"envoy.filters.network.{kind}", f"envoy.extensions.filters.network.{kind}.v3.{name}", **fields)


def typed(name: str, type_name: str, **fields: Any) -> dict[str, Any]:
    """A named extension with its typed_config."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{type_name}", **fields}}


def socket_address(address: str, port: int) -> dict[str, Any]:
    return {"socket_address": {"address": address, "port_value": port}}

"""Every field of Istio's kinds that is not refused changes what proxies are sent: none is ignored silently.

Each case sets one field of a manifest that works without it, and compiles both. That there is a case for every field
is read off the types, so that a new field without one fails.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Any

import pytest
import yaml
from xdskit.fields import spec_fields
from xdskit.mesh import BOOKINFO, Mesh, objects

from mesh.config.decode import decode_object
from mesh.config.support import UNSUPPORTED
from mesh.config.validate import require_valid
from mesh.xds.compile.proxy import Role
from mesh.xds.resource import Resource

MESH = """
apiVersion: v1
kind: Service
metadata: {name: shop}
spec:
  selector: {app: reviews}
  ports: [{name: http-a, port: 7000}, {name: http-b, port: 7001}, {name: tcp, port: 7002}]
---
apiVersion: v1
kind: Pod
metadata: {name: shopper, labels: {istio-locality: here.zone, tier: gold}}
spec: {containers: [{name: istio-proxy}]}
status: {phase: Running, podIP: 127.64.9.1, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: near, labels: {app: reviews, version: v1, istio-locality: here.other}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 127.64.9.2, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: far, labels: {app: reviews, version: v1, istio-locality: far.zone, tier: gold}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 127.64.9.3, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Pod
metadata: {name: away, labels: {app: reviews, version: v1, istio-locality: away.zone}}
spec: {containers: [{name: a}]}
status: {phase: Running, podIP: 127.64.9.4, conditions: [{type: Ready, status: "True"}]}
---
apiVersion: v1
kind: Secret
metadata: {name: keys, namespace: istio-system}
stringData: {cert: a, key: b, cacert: c}
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge}
spec: {selector: {istio: ingressgateway}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]}]}
"""
PROXIES = [
    ("shopper", "default", Role.SIDECAR),
    ("productpage-v1-5d4f-aaaaa", "default", Role.SIDECAR),
    ("reviews-v1-6a6b-aaaaa", "default", Role.SIDECAR),
    ("ingress-9a9b-aaaaa", "istio-system", Role.ROUTER),
]
VIRTUAL_SERVICE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: base}
spec:
  hosts: [shop, "*.shop"]
  gateways: [mesh, edge]
  http:
  - {match: [{uri: {exact: /redirect}}], redirect: {authority: elsewhere}}
  - {match: [{uri: {exact: /direct}}], directResponse: {status: 200}}
  - match: [{uri: {exact: /weighted}}]
    retries: {attempts: 3}
    route: [{destination: {host: reviews}, weight: 1}, {destination: {host: ratings}, weight: 1}]
  - match: [{uri: {exact: /mirrored}}]
    mirror: {host: ratings}
    corsPolicy: {allowOrigins: [{exact: "https://b"}]}
    route: [{destination: {host: reviews}}]
  tcp:
  - match: [{port: 7002}]
    route: [{destination: {host: reviews}, weight: 1}, {destination: {host: ratings}, weight: 1}]
  tls:
  - match: [{port: 7002, sniHosts: [shop]}]
    route: [{destination: {host: reviews}, weight: 1}, {destination: {host: ratings}, weight: 1}]
"""
DESTINATION_RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: base}
spec:
  host: shop
  trafficPolicy:
    tls: &tls {mode: MUTUAL, clientCertificate: /a, privateKey: /b, caCertificates: /c}
    outlierDetection: &outliers {splitExternalLocalOriginErrors: true, consecutive5xxErrors: 7}
    portLevelSettings:
    - &port {port: {number: 7000}, loadBalancer: {simple: ROUND_ROBIN}, tls: *tls, outlierDetection: *outliers}
  subsets:
  - name: v1
    labels: {version: v1}
    trafficPolicy:
      tls: *tls
      outlierDetection: *outliers
      portLevelSettings: [{<<: *port, port: {number: 7001}}]
"""
GATEWAY = """
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: base}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8081, name: http, protocol: HTTP}, hosts: ["*"]}
  - port: {number: 8443, name: https, protocol: HTTPS}
    hosts: ["*"]
    tls: {mode: MUTUAL, serverCertificate: /a, privateKey: /b, caCertificates: /c}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: base}
spec: {hosts: ["*"], gateways: [base], http: [{directResponse: {status: 200}}]}
"""
PEER_AUTHENTICATION = """
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: base}
spec: {selector: {matchLabels: {app: reviews}}, mtls: {mode: DISABLE}}
"""
AUTHORIZATION_POLICY = """
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: base}
spec:
  selector: {matchLabels: {app: reviews}}
  rules:
  - from: [{source: {principals: [a]}}, {source: {ipBlocks: [10.0.0.1]}}]
    to: [{operation: {paths: [/a]}}]
    when: [{key: source.ip, values: [10.0.0.1], notValues: [10.0.0.2]}]
"""
REQUEST_AUTHENTICATION = """
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: base}
spec:
  selector: {matchLabels: {app: reviews}}
  jwtRules:
  - {issuer: a, jwks: '{"keys": [{"kty": "oct"}]}'}
  - {issuer: b, jwksUri: "https://b/"}
"""
BASES = {
    "VirtualService": VIRTUAL_SERVICE,
    "DestinationRule": DESTINATION_RULE,
    "Gateway": GATEWAY,
    "PeerAuthentication": PEER_AUTHENTICATION,
    "AuthorizationPolicy": AUTHORIZATION_POLICY,
    "RequestAuthentication": REQUEST_AUTHENTICATION,
}
FILES = {"serverCertificate": "/other", "privateKey": "/other"}
TEXTS = ("principals", "requestPrincipals", "namespaces")


def negated(name: str) -> str:
    return f"not{name[0].upper()}{name[1:]}"


EDITS = {"set": {"a": "1"}, "add": {"a": "1"}, "remove": ["a"]}
POLICY: list[tuple[str, Any]] = [
    ("loadBalancer.simple", "RANDOM"),
    *(
        ("loadBalancer", {"consistentHash": hashing})
        for hashing in (
            {"httpHeaderName": "x-user"},
            {"httpQueryParameterName": "user"},
            {"useSourceIp": True},
            {"useSourceIp": True, "minimumRingSize": 7},
            {"useSourceIp": True, "ringHash": {"minimumRingSize": 7}},
            {"useSourceIp": True, "maglev": {"tableSize": 7}},
            {"httpCookie": {"name": "user"}},
            {"httpCookie": {"name": "user", "path": "/a"}},
            {"httpCookie": {"name": "user", "ttl": "1s"}},
            {"httpCookie": {"name": "user", "attributes": [{"name": "SameSite", "value": "Strict"}]}},
        )
    ),
    ("loadBalancer.localityLbSetting.enabled", False),
    ("loadBalancer.localityLbSetting", {"distribute": [{"from": "here/*", "to": {"here/*": 80, "far/*": 20}}]}),
    ("loadBalancer.localityLbSetting", {"failover": [{"from": "here", "to": "far"}]}),
    ("loadBalancer.localityLbSetting", {"failoverPriority": ["tier"]}),
    ("loadBalancer.warmupDurationSecs", "7s"),
    ("loadBalancer.warmup", {"duration": "7s"}),
    ("loadBalancer.warmup", {"duration": "7s", "minimumPercent": 7.0}),
    ("loadBalancer.warmup", {"duration": "7s", "aggression": 7.0}),
    ("connectionPool.tcp.maxConnections", 1),
    ("connectionPool.tcp.connectTimeout", "1s"),
    ("connectionPool.tcp.maxConnectionDuration", "1s"),
    ("connectionPool.tcp.tcpKeepalive.probes", 3),
    ("connectionPool.tcp.tcpKeepalive.time", "1s"),
    ("connectionPool.tcp.tcpKeepalive.interval", "1s"),
    ("connectionPool.http.http1MaxPendingRequests", 1),
    ("connectionPool.http.http2MaxRequests", 1),
    ("connectionPool.http.maxRequestsPerConnection", 1),
    ("connectionPool.http.maxRetries", 1),
    ("connectionPool.http.idleTimeout", "1s"),
    ("connectionPool.http.h2UpgradePolicy", "UPGRADE"),
    ("connectionPool.http.useClientProtocol", True),
    ("connectionPool.http", {"h2UpgradePolicy": "UPGRADE", "maxConcurrentStreams": 7}),
    ("outlierDetection.splitExternalLocalOriginErrors", False),
    ("outlierDetection.consecutiveLocalOriginFailures", 3),
    ("outlierDetection.consecutiveGatewayErrors", 3),
    ("outlierDetection.consecutive5xxErrors", 3),
    ("outlierDetection.interval", "1s"),
    ("outlierDetection.baseEjectionTime", "1s"),
    ("outlierDetection.maxEjectionPercent", 50),
    ("outlierDetection.minHealthPercent", 50),
    ("tls.mode", "SIMPLE"),
    ("tls.clientCertificate", "/other"),
    ("tls.privateKey", "/other"),
    ("tls.caCertificates", "/other"),
    ("tls.subjectAltNames", ["other"]),
    ("tls.sni", "other"),
    ("tls.caCrl", "/other"),
    ("tls", {"mode": "SIMPLE", "insecureSkipVerify": True}),
]
CASES: dict[str, list[tuple[str, Any]]] = {
    "VirtualService": [
        ("hosts", ["shop", "reviews", "*.shop"]),
        ("gateways", ["mesh"]),
        ("exportTo", ["elsewhere"]),
        ("http.0.name", "a"),
        ("http.0.match.0.name", "a"),
        *(
            (f"http.0.match.0.{name}", {how: "/a"})
            for name in ("uri", "scheme", "method", "authority")
            for how in ("exact", "prefix", "regex")
        ),
        ("http.0.match.0.headers", {"a": {"exact": "b"}}),
        ("http.0.match.0.withoutHeaders", {"a": {}}),
        ("http.0.match.0.queryParams", {"a": {"exact": "b"}}),
        ("http.0.match.0.port", 8080),
        ("http.0.match.0.sourceLabels", {"app": "ratings"}),
        ("http.0.match.0.sourceNamespace", "elsewhere"),
        ("http.0.match.0.gateways", ["mesh"]),
        ("http.0.match.0.ignoreUriCase", True),
        *((f"http.0.redirect.{name}", "http") for name in ("uri", "authority", "scheme")),
        ("http.0.redirect.port", 1),
        ("http.0.redirect.derivePort", "FROM_REQUEST_PORT"),
        ("http.0.redirect.redirectCode", 308),
        ("http.1.directResponse.status", 201),
        ("http.1.directResponse.body", {"string": "a"}),
        ("http.1.directResponse.body", {"bytes": "YQ=="}),
        ("http.2.timeout", "1s"),
        ("http.2.rewrite.uri", "/a"),
        ("http.2.rewrite.authority", "a"),
        ("http.2.rewrite.uriRegexRewrite", {"match": "a", "rewrite": "b"}),
        ("http.2", {"delegate": {"name": "other"}}),
        ("http.2", {"delegate": {"name": "other", "namespace": "default"}}),
        ("http.2.mirror", {"host": "reviews", "subset": "v1", "port": {"number": 1}}),
        ("http.2.mirrors", [{"destination": {"host": "reviews", "subset": "v1", "port": {"number": 1}}}]),
        ("http.2.mirrors", [{"destination": {"host": "reviews"}, "percentage": {"value": 7}}]),
        ("http.3.mirrorPercentage", {"value": 7}),
        ("http.3.mirrorPercent", 7),
        ("http.2.corsPolicy", {"allowOrigin": ["https://a"]}),
        *(("http.2.corsPolicy", {"allowOrigins": [{how: "https://a"}]}) for how in ("exact", "prefix", "regex")),
        ("http.3.corsPolicy.allowMethods", ["PUT"]),
        ("http.3.corsPolicy.allowHeaders", ["x-a"]),
        ("http.3.corsPolicy.exposeHeaders", ["x-a"]),
        ("http.3.corsPolicy.maxAge", "7s"),
        ("http.3.corsPolicy.allowCredentials", True),
        ("http.3.corsPolicy.unmatchedPreflights", "IGNORE"),
        ("http.2.retries.attempts", 7),
        ("http.2.retries.perTryTimeout", "1s"),
        ("http.2.retries.retryOn", "5xx"),
        ("http.2.retries.retryIgnorePreviousHosts", False),
        ("http.2.retries.backoff", "1s"),
        ("http.2.fault.delay", {"fixedDelay": "1s", "percentage": {"value": 7}}),
        ("http.2.fault.delay", {"fixedDelay": "1s", "percent": 7}),
        ("http.2.fault.abort", {"httpStatus": 500, "percentage": {"value": 7}}),
        ("http.2.fault.abort", {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 7}}),
        *(
            (f"http.2.{owner}headers.{side}.{verb}", value)
            for owner in ("", "route.0.")
            for side in ("request", "response")
            for verb, value in EDITS.items()
        ),
        ("http.2.route.0.destination.host", "other"),
        ("http.2.route.0.destination.subset", "v1"),
        ("http.2.route.0.destination.port", {"number": 1}),
        ("http.2.route.0.weight", 7),
        ("tls.0.match.0.sniHosts", ["*.shop"]),
        ("tls.0.match.0.port", 1),
        ("tls.0.match.0.sourceLabels", {"app": "ratings"}),
        ("tls.0.match.0.sourceNamespace", "elsewhere"),
        ("tls.0.match.0.gateways", ["edge"]),
        ("tls.0.route.0.destination.host", "other"),
        ("tls.0.route.0.destination.subset", "v1"),
        ("tls.0.route.0.destination.port", {"number": 1}),
        ("tls.0.route.0.weight", 7),
        ("tcp.0.match.0.port", 1),
        ("tcp.0.match.0.sourceLabels", {"app": "ratings"}),
        ("tcp.0.match.0.sourceNamespace", "elsewhere"),
        ("tcp.0.match.0.gateways", ["edge"]),
        ("tcp.0.route.0.destination.host", "other"),
        ("tcp.0.route.0.destination.subset", "v1"),
        ("tcp.0.route.0.destination.port", {"number": 1}),
        ("tcp.0.route.0.weight", 7),
    ],
    "DestinationRule": [
        ("host", "reviews"),
        ("exportTo", ["elsewhere"]),
        ("subsets.0.name", "other"),
        ("subsets.0.labels", {"version": "v2"}),
        *((f"trafficPolicy.{path}", value) for path, value in POLICY),
        *((f"subsets.0.trafficPolicy.{path}", value) for path, value in POLICY),
        *((f"trafficPolicy.portLevelSettings.0.{path}", value) for path, value in POLICY),
        *((f"subsets.0.trafficPolicy.portLevelSettings.0.{path}", value) for path, value in POLICY),
        *(
            (f"{owner}trafficPolicy.retryBudget", budget)
            for owner in ("", "subsets.0.")
            for budget in ({}, {"percent": 7.0}, {"minRetryConcurrency": 7})
        ),
        ("trafficPolicy.portLevelSettings.0.port", {"number": 1}),
        ("subsets.0.trafficPolicy.portLevelSettings.0.port", {"number": 1}),
    ],
    "Gateway": [
        ("selector", {"app": "other"}),
        ("servers.0.port.number", 8082),
        ("servers.0.hosts", ["other"]),
        ("servers.0.tls", {"httpsRedirect": True}),
        ("servers.1.port.protocol", "TLS"),
        ("servers.1.tls.mode", "OPTIONAL_MUTUAL"),
        *(
            (f"servers.1.tls.{name}", "/other")
            for name in ("serverCertificate", "privateKey", "caCertificates", "caCrl")
        ),
        ("servers.1.tls.subjectAltNames", ["a.com"]),
        ("servers.1.tls.verifyCertificateSpki", ["YQ=="]),
        ("servers.1.tls.verifyCertificateHash", ["a"]),
        ("servers.1.tls.minProtocolVersion", "TLSV1_3"),
        ("servers.1.tls.maxProtocolVersion", "TLSV1_2"),
        ("servers.1.tls.cipherSuites", ["ECDHE-RSA-AES128-GCM-SHA256"]),
        ("servers.1.tls.caCertCredentialName", "keys"),
        ("servers.1.tls", {"mode": "SIMPLE", "credentialName": "keys"}),
        ("servers.1.tls", {"mode": "SIMPLE", "credentialNames": ["keys"]}),
        ("servers.1.tls", {"mode": "MUTUAL", "caCertificates": "/c", "tlsCertificates": [FILES]}),
    ],
    "PeerAuthentication": [
        ("selector.matchLabels", {"app": "ratings"}),
        ("mtls.mode", "STRICT"),
        ("portLevelMtls", {"9080": {"mode": "STRICT"}}),
    ],
    "AuthorizationPolicy": [
        ("selector.matchLabels", {"app": "ratings"}),
        ("action", "DENY"),
        *((f"rules.0.from.0.source.{name}", ["b"]) for own in TEXTS for name in (own, negated(own))),
        *((f"rules.0.from.1.source.{name}", ["b"]) for name in ("serviceAccounts", "notServiceAccounts")),
        *(
            (f"rules.0.from.0.source.{name}", ["10.0.0.9"])
            for own in ("ipBlocks", "remoteIpBlocks")
            for name in (own, negated(own))
        ),
        *(
            (f"rules.0.to.0.operation.{name}", ["9"])
            for own in ("hosts", "ports", "methods", "paths")
            for name in (own, negated(own))
        ),
        ("rules.0.when.0.key", "remote.ip"),
        ("rules.0.when.0.values", ["10.0.0.9"]),
        ("rules.0.when.0.notValues", ["10.0.0.9"]),
    ],
    "RequestAuthentication": [
        ("selector.matchLabels", {"app": "ratings"}),
        ("jwtRules.0.issuer", "c"),
        ("jwtRules.0.audiences", ["c"]),
        ("jwtRules.0.jwks", '{"keys": [{"kty": "EC"}]}'),
        ("jwtRules.1.jwksUri", "http://c"),
        ("jwtRules.0.fromHeaders", [{"name": "c"}]),
        ("jwtRules.0.fromHeaders", [{"name": "Authorization", "prefix": "c"}]),
        ("jwtRules.0.fromParams", ["c"]),
        ("jwtRules.0.fromCookies", ["c"]),
        ("jwtRules.0.outputPayloadToHeader", "c"),
        ("jwtRules.0.outputClaimToHeaders", [{"header": "c", "claim": "d"}]),
        ("jwtRules.0.forwardOriginalToken", True),
        ("jwtRules.1.timeout", "7s"),
        ("jwtRules.0.spaceDelimitedClaims", ["c"]),
    ],
}
NAMES_ALONE = {"Gateway": {"servers[].name", "servers[].port.name", "servers[].port.targetPort"}}
"""Names are for people, as in Istio at HTTP servers; targetPort is refused."""


def documents(kind: str) -> list[dict[str, Any]]:
    """Through JSON, so that no two places share what a YAML alias made one."""
    found: list[dict[str, Any]] = json.loads(json.dumps(list(yaml.safe_load_all(BASES[kind]))))
    return found


def put(document: Any, path: str, value: Any) -> None:
    *steps, last = path.split(".")
    for step in steps:
        document = document[int(step)] if isinstance(document, list) else document.setdefault(step, {})
    document[int(last) if isinstance(document, list) else last] = value


def compiled(manifests: Iterable[dict[str, Any]]) -> list[object]:
    """All bytes that the proxies of PROXIES are sent. A manifest that is refused fails the test."""
    valid = [require_valid(decode_object(manifest)).resource for manifest in manifests]
    mesh = Mesh([*objects(BOOKINFO.read_text(), MESH), *valid])
    configs = [mesh.config(pod, namespace, role) for pod, namespace, role in PROXIES]
    return [
        [
            {own.name: own.encoded for own in config.clusters},
            {own.name: own.encoded for own in config.listeners},
            [encoded(config.endpoints(name)) for own in config.clusters for name in own.wants],
            {name: encoded(config.secrets(name)) for name in config.secret_names},
            [encoded(config.routes(name)) for own in config.listeners for name in own.wants],
        ]
        for config in configs
    ]


def encoded(resource: Resource | None) -> bytes | None:
    return resource.encoded if resource is not None else None


@cache
def compiled_base(kind: str) -> list[object]:
    return compiled(documents(kind))


def leaves(kind: str) -> set[str]:
    """Paths of the fields of a kind that hold values and that are not refused outright."""
    paths = [path for path, _, _ in spec_fields(kind)]
    refused = tuple(entry.path for entry in UNSUPPORTED[kind] if entry.values is None)
    return {
        path
        for path in paths
        if not any(f"{path}.".startswith((f"{entry}.", f"{entry}[]")) for entry in refused)
        and not any(other.startswith(f"{path}.") for other in paths)
    }


@pytest.mark.parametrize("kind", BASES)
def test_there_is_a_case_for_every_field(kind: str) -> None:
    covered = {place for path, value in CASES[kind] for place in places(re.sub(r"\.\d+", "[]", path), value)}
    assert leaves(kind) - covered - NAMES_ALONE.get(kind, set()) == set()


def places(path: str, value: Any) -> Iterator[str]:
    """The path of a value and of all that is in it."""
    yield path
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from places(f"{path}.{name}", inner)
    elif isinstance(value, list):
        for inner in value:
            yield from places(f"{path}[]", inner)


@pytest.mark.parametrize(
    ("kind", "path", "value"), [(kind, path, value) for kind, cases in CASES.items() for path, value in cases]
)
def test_a_field_reaches_a_proxy(kind: str, path: str, value: Any) -> None:
    manifests = documents(kind)
    put(manifests[0]["spec"], path, value)
    assert compiled(manifests) != compiled_base(kind)

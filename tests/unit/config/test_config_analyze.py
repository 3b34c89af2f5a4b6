"""Each analyzer: what it finds, where, and what it leaves alone."""

from __future__ import annotations

import textwrap
from dataclasses import dataclass

import pytest

from mesh.config.analyze.message import Severity
from mesh.config.analyze.run import analyze
from mesh.config.decode import decode_text

SERVICES = """
apiVersion: v1
kind: Service
metadata: {name: reviews}
spec:
  selector: {app: reviews}
  ports: [{name: http, port: 9080}]
---
apiVersion: v1
kind: Service
metadata: {name: ratings}
spec:
  selector: {app: ratings}
  ports: [{name: http, port: 9080}, {name: tcp-db, port: 9081}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: reviews-v1}
spec:
  replicas: 3
  selector: {matchLabels: {app: reviews, version: v1}}
  template:
    metadata: {labels: {app: reviews, version: v1}}
    spec:
      containers: [{name: reviews, image: x, ports: [{containerPort: 9080}]}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ratings-v1}
spec:
  selector: {matchLabels: {app: ratings}}
  template:
    metadata: {labels: {app: ratings}}
    spec:
      containers: [{name: ratings, image: x}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec:
  host: reviews
  subsets: [{name: v1, labels: {version: v1}}]
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: ingress}
spec:
  selector: {matchLabels: {istio: ingressgateway}}
  template:
    metadata: {labels: {istio: ingressgateway}}
    spec:
      containers: [{name: istio-proxy, image: auto}]
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: bookinfo}
spec:
  selector: {istio: ingressgateway}
  servers:
  - {port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*.example.com"]}
"""


def messages(text: str) -> list[str]:
    """The messages about `text` laid over the services, those of the services themselves left out."""
    beneath = decode_text(SERVICES)
    assert beneath.problems == ()
    decoded = decode_text(textwrap.dedent(text), "f.yaml")
    found = analyze(decoded.manifests, decoded.problems, beneath.manifests)
    return [str(message) for message in found if message.file]


def virtual_service(spec: str, name: str = "x") -> str:
    return f"apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def destination_rule(spec: str, name: str = "x") -> str:
    return f"apiVersion: networking.istio.io/v1\nkind: DestinationRule\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def gateway(spec: str, name: str = "x") -> str:
    return f"apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {{name: {name}}}\nspec: {spec}\n"


def service(spec: str, name: str = "x") -> str:
    return f"apiVersion: v1\nkind: Service\nmetadata: {{name: {name}}}\nspec: {spec}\n"


CREDENTIAL = "apiVersion: v1\nkind: Secret\nmetadata: {name: cert}\nstringData: {cert: -----BEGIN A-----}\n"
TO_REVIEWS = "{destination: {host: reviews}}"
SERVER = '{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*"]'
INGRESS = "{istio: ingressgateway}"


def test_the_services_alone_are_fine() -> None:
    decoded = decode_text(SERVICES)
    assert analyze(decoded.manifests, decoded.problems) == ()


@dataclass(frozen=True)
class Case:
    text: str
    expected: tuple[str, ...]


VS = "VirtualService default/x f.yaml:4"
DR = "DestinationRule default/x f.yaml:4"
GW = "Gateway default/x f.yaml:4"
CASES = {
    "host not found": Case(
        virtual_service("{hosts: [reviews], http: [{route: [{destination: {host: revews}}]}]}"),
        (f'Error [IST0101] ({VS}) Referenced host not found: "revews" (did you mean "reviews"?)',),
    ),
    "hosts that a ServiceEntry tells of": Case(
        "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: x}\n"
        "spec: {hosts: [a.example.com], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
        + virtual_service("{hosts: [a.example.com], http: [{route: [{destination: {host: a.example.com}}]}]}")
        + "---\n"
        + destination_rule("{host: a.example.com}"),
        (),
    ),
    "host of another namespace not found": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: reviews.prod.svc.cluster.local}}]}]}"),
        (f'Error [IST0101] ({VS}) Referenced host not found: "reviews.prod.svc.cluster.local"',),
    ),
    "host by its full name": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: reviews.default.svc.cluster.local}}]}]}"),
        (),
    ),
    "subset not found": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: reviews, subset: v11}}]}]}"),
        (
            f'Error [IST0101] ({VS}) Referenced host+subset in destinationrule not found: "reviews+v11" '
            '(did you mean "v1"?)',
        ),
    ),
    "subset found": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}"), ()
    ),
    "gateway not found": Case(
        virtual_service(f"{{hosts: [a.example.com], gateways: [bookinfos], http: [{{route: [{TO_REVIEWS}]}}]}}"),
        (f'Error [IST0101] ({VS}) Referenced gateway not found: "bookinfos" (did you mean "default/bookinfo"?)',),
    ),
    "delegate not found": Case(
        virtual_service("{hosts: [reviews], http: [{delegate: {name: shop}}]}"),
        (f'Error [IST0101] ({VS}) Referenced delegate not found: "default/shop", a VirtualService without hosts',),
    ),
    "selector of a gateway not found": Case(
        gateway(f"{{selector: {{istio: egress}}, servers: [{SERVER}}}]}}"),
        (f'Error [IST0101] ({GW}) Referenced selector not found: "istio=egress"',),
    ),
    "schema": Case(
        virtual_service(f"{{hosts: [a], http: [{{rout: [{TO_REVIEWS}]}}]}}"),
        (
            f'Error [IST0106] ({VS}) Schema validation error: spec.http[0].rout: unknown field "rout"; '
            'did you mean "route"?',
        ),
    ),
    "shared mesh host": Case(
        virtual_service(f"{{hosts: [reviews], http: [{{route: [{TO_REVIEWS}]}}]}}")
        + "---\n"
        + virtual_service(f"{{hosts: [reviews.default.svc.cluster.local], http: [{{route: [{TO_REVIEWS}]}}]}}", "y"),
        tuple(
            f"Error [IST0109] (VirtualService default/{name} f.yaml:{line}) The VirtualServices default/x,default/y "
            "associated with mesh gateway define the same host reviews.default.svc.cluster.local: the oldest wins and "
            "the others are ignored"
            for name, line in (("x", 4), ("y", 9))
        ),
    ),
    "shared host at a gateway merges": Case(
        virtual_service(f"{{hosts: [a.example.com], gateways: [bookinfo], http: [{{route: [{TO_REVIEWS}]}}]}}")
        + "---\n"
        + virtual_service(f"{{hosts: [a.example.com], gateways: [bookinfo], http: [{{route: [{TO_REVIEWS}]}}]}}", "y"),
        (),
    ),
    "several ports, none chosen": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: ratings}}]}]}"),
        (
            f'Error [IST0112] ({VS}) This VirtualService routes to a host "ratings" that exposes multiple ports '
            "[9080 9081]. Specifying a port in the destination is required to disambiguate.",
        ),
    ),
    "several ports, one chosen": Case(
        virtual_service("{hosts: [a], http: [{route: [{destination: {host: ratings, port: {number: 9080}}}]}]}"), ()
    ),
    "port name": Case(
        service("{selector: {app: reviews}, ports: [{name: web, port: 80, targetPort: 8080}]}"),
        (
            "Info [IST0118] (Service default/x f.yaml:4) Port name web (port: 80, targetPort: 8080) doesn't follow the "
            "naming convention of Istio port.",
        ),
    ),
    "port names that tell": Case(
        service(
            "{selector: {app: reviews}, ports: [{name: http-web, port: 80}, {name: x, port: 81, appProtocol: tcp}, "
            "{name: dns, port: 53, protocol: UDP}]}"
        ),
        (),
    ),
    "policy without workloads": Case(
        "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {name: x}\n"
        "spec: {selector: {matchLabels: {app: nobody}}, mtls: {mode: STRICT}}\n",
        (
            "Warning [IST0127] (PeerAuthentication default/x f.yaml:4) No matching workloads for this resource with "
            "the following labels: app=nobody",
        ),
    ),
    "server certificate unverified": Case(
        destination_rule(
            "{host: ratings, trafficPolicy: {tls: {mode: SIMPLE}, portLevelSettings: "
            "[{port: {number: 9081}, tls: {mode: SIMPLE}}]}}"
        ),
        (
            f"Error [IST0129] ({DR}) DestinationRule default/x has TLS mode set to SIMPLE but no caCertificates are "
            "set to validate server identity for host: ratings at port 9081",
            f"Error [IST0128] ({DR}) DestinationRule default/x has TLS mode set to SIMPLE but no caCertificates are "
            "set to validate server identity for host: ratings",
        ),
    ),
    "server certificate verified": Case(
        destination_rule("{host: ratings, trafficPolicy: {tls: {mode: SIMPLE, caCertificates: /ca.pem}}}"), ()
    ),
    "rule after a catch-all": Case(
        virtual_service(f"{{hosts: [a], http: [{{route: [{TO_REVIEWS}]}}, {{name: last, route: [{TO_REVIEWS}]}}]}}"),
        (f'Warning [IST0130] ({VS}) VirtualService rule "last" not used (only the last rule can have no matches).',),
    ),
    "match given twice": Case(
        virtual_service(
            f"{{hosts: [a], http: [{{match: [{{uri: {{prefix: /a}}}}], route: [{TO_REVIEWS}]}}, "
            f"{{match: [{{name: again, uri: {{prefix: /a}}}}], route: [{TO_REVIEWS}]}}]}}"
        ),
        (
            f"Warning [IST0130] ({VS}) VirtualService rule #1 not used (all matches used by prior rules).",
            f"Info [IST0131] ({VS}) VirtualService rule #1 match #0 is not used (duplicates a match in rule #0).",
        ),
    ),
    "prefix taken by a shorter one": Case(
        virtual_service(
            f"{{hosts: [a], http: [{{match: [{{uri: {{prefix: /a}}}}], route: [{TO_REVIEWS}]}}, "
            f"{{match: [{{uri: {{exact: /a/b}}}}, {{uri: {{prefix: /b}}}}], route: [{TO_REVIEWS}]}}]}}"
        ),
        (
            f"Info [IST0131] ({VS}) VirtualService rule #1 match #0 is not used "
            "(the prefix /a of rule #0 takes /a/b already).",
        ),
    ),
    "prefix taken only for some requests": Case(
        virtual_service(
            "{hosts: [a], http: [{match: [{uri: {prefix: /a}, method: {exact: GET}}], "
            f"route: [{TO_REVIEWS}]}}, {{match: [{{uri: {{prefix: /a/b}}}}], route: [{TO_REVIEWS}]}}]}}"
        ),
        (),
    ),
    "host that the gateway does not serve": Case(
        virtual_service(f"{{hosts: [a.org], gateways: [bookinfo], http: [{{route: [{TO_REVIEWS}]}}]}}"),
        (
            f"Warning [IST0132] ({VS}) One or more host ['a.org'] defined in VirtualService default/x not found in "
            "Gateway default/bookinfo",
        ),
    ),
    "credential that is not there": Case(
        gateway(
            "{selector: {app: reviews}, servers: [{port: {number: 8443, name: https, protocol: HTTPS}, "
            "hosts: [a.com], tls: {mode: SIMPLE, credentialName: cert}}]}"
        ),
        (
            "Warning [IST0162] (Gateway default/x f.yaml:4) The gateway is listening on a target port (port 8443) "
            "that is not defined in the Service associated with its workload instances",
            'Error [IST0101] (Gateway default/x f.yaml:4) Referenced credentialName not found: "cert" '
            "(no Secret of that name in default)",
        ),
    ),
    "certificate in two gateways": Case(
        CREDENTIAL
        + "---\n"
        + "---\n".join(
            gateway(
                f"{{selector: {INGRESS}, servers: [{{port: {{number: 8443, name: https, protocol: HTTPS}}, "
                f"hosts: [{name}.com], tls: {{mode: SIMPLE, credentialName: cert}}}}]}}",
                name,
            )
            for name in ("x", "y")
        ),
        tuple(
            f"Warning [IST0138] (Gateway default/{name} f.yaml:{line}) Duplicate certificate in multiple gateways "
            "[default/x, default/y] may cause 404s if clients re-use HTTP2 connections"
            for name, line in (("x", 9), ("y", 14))
        ),
    ),
    "subsets that the ingress goes around": Case(
        virtual_service("{hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}")
        + "---\n"
        + virtual_service(f"{{hosts: [a.example.com], gateways: [bookinfo], http: [{{route: [{TO_REVIEWS}]}}]}}", "y"),
        (
            f"Warning [IST0140] ({VS}) Subset in virtual service default/x has no effect on ingress gateway "
            "default/bookinfo requests: VirtualService default/y routes them past it",
        ),
    ),
    "gateways in conflict": Case(
        gateway(f"{{selector: {INGRESS}, servers: [{SERVER}}}]}}")
        + "---\n"
        + gateway(f"{{selector: {INGRESS}, servers: [{SERVER}}}]}}", "y"),
        tuple(
            f"Error [IST0145] (Gateway default/{name} f.yaml:{line}) Conflict with gateways default/{other} "
            "(workload selector istio=ingressgateway, port 8080, hosts *)"
            for name, other, line in (("x", "y", 4), ("y", "x", 9))
        ),
    ),
    "gateway port that no service leads to": Case(
        gateway(f"{{selector: {{app: reviews}}, servers: [{SERVER}}}]}}"),
        (
            f"Warning [IST0162] ({GW}) The gateway is listening on a target port (port 8080) that is not defined in "
            "the Service associated with its workload instances",
        ),
    ),
    "gateway port that a service maps": Case(
        service("{selector: {app: reviews}, ports: [{name: http-in, port: 8080, targetPort: 9999}]}", "front")
        + "---\n"
        + gateway(f"{{selector: {{app: reviews}}, servers: [{SERVER}}}]}}"),
        (),
    ),
    "subset without pods": Case(
        destination_rule("{host: ratings, subsets: [{name: v2, labels: {version: v2}}]}"),
        (f'Error [IST0173] ({DR}) The subset "v2" (version=v2) selects no pods of Service default/ratings',),
    ),
    "rule about an unknown host": Case(
        destination_rule("{host: rating}"),
        (
            f'Warning [IST0174] ({DR}) The host "rating" defined in the DestinationRule does not match any services '
            '(did you mean "ratings"?)',
        ),
    ),
    "rule about many hosts": Case(destination_rule('{host: "*.default.svc.cluster.local"}'), ()),
    "outlier detection that never ejects": Case(
        destination_rule("{host: reviews, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}}", "reviews"),
        (
            "Warning [MD0001] (DestinationRule default/reviews f.yaml:4) Outlier detection never ejects: "
            'maxEjectionPercent is 10 by default, and one of 3 endpoints of "reviews" is already 33 %. '
            "Set maxEjectionPercent to 34 or more.",
        ),
    ),
    "outlier detection that ejects": Case(
        destination_rule("{host: reviews, trafficPolicy: {outlierDetection: {maxEjectionPercent: 34}}}", "reviews"), ()
    ),
}
IGNORED = ("is not carried out by this version",)
"""Refusals that come on top of a case because this version cannot carry out its subject."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES.keys())
def test_messages(case: Case) -> None:
    found = [message for message in messages(case.text) if not any(part in message for part in IGNORED)]
    assert found == list(case.expected)


def test_messages_are_in_the_order_of_lines_and_carry_severity_and_place() -> None:
    shadowed, misspelt = CASES["rule after a catch-all"].text, CASES["host not found"].text
    decoded = decode_text(
        f"{shadowed}---\n{misspelt.replace('name: x', 'name: y').replace('[reviews]', '[b]')}", "f.yaml"
    )
    found = analyze(decoded.manifests, decoded.problems, decode_text(SERVICES).manifests)
    assert [(message.line, message.path) for message in found if message.file] == [
        (4, "spec.http[1]"),
        (9, "spec.http[0].route[0].destination.host"),
    ]
    assert [message.severity for message in found] == [Severity.WARNING, Severity.ERROR]


def test_an_object_given_twice_is_an_error_at_the_second() -> None:
    text = destination_rule("{host: ratings}")
    decoded = decode_text(f"{text}---\n{text}", "f.yaml")
    found = analyze(decoded.manifests, decoded.problems, decode_text(SERVICES).manifests)
    assert [str(message) for message in found] == [
        "Error [IST0106] (DestinationRule default/x f.yaml:6) Schema validation error: "
        "is given twice, first at f.yaml:1; keep one"
    ]

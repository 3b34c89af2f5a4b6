"""The pages below are cut from those of a real Envoy 1.40 and of our sidecar, which agree on these fields."""

from typing import Any

from mesh.cli.config_dump import render, resources

LISTENER = {
    "name": "127.90.1.1_9080",
    "address": {"socket_address": {"address": "127.90.1.1", "port_value": 9080}},
    "filter_chains": [
        {
            "filter_chain_match": {"transport_protocol": "tls", "application_protocols": ["istio"]},
            "filters": [{"name": "hcm", "typed_config": {"route_config": {"name": "inbound|9080||"}}}],
        },
        {"filters": [{"name": "tcp", "typed_config": {"cluster": "inbound|3306||"}}]},
    ],
}
WEIGHTED = {
    "clusters": [{"name": "outbound|9080|v1|reviews", "weight": 90}, {"name": "outbound|9080|v2|reviews", "weight": 10}]
}
ROUTES = {
    "name": "http_proxy",
    "virtual_hosts": [
        {
            "name": "reviews:9080",
            "routes": [
                {
                    "match": {"prefix": "/", "headers": [{"name": "end-user"}]},
                    "direct_response": {"status": 503},
                },
                {"match": {"safe_regex": {"regex": "/a.*"}}, "redirect": {}},
                {"match": {"path": "/"}, "route": {"weighted_clusters": WEIGHTED}},
            ],
        }
    ],
}


def dump(kind: str, **lists: Any) -> dict[str, Any]:
    return {
        "configs": [
            {"@type": "type.googleapis.com/envoy.admin.v3.BootstrapConfigDump"},
            {"@type": f"type.googleapis.com/envoy.admin.v3.{kind}", **lists},
        ]
    }


def rows(what: str, page: dict[str, Any]) -> list[list[str]]:
    return [line.split("   ") for line in render(what, resources(what, page)).splitlines()[1:]]


def cells(what: str, page: dict[str, Any]) -> list[list[str]]:
    return [[cell.strip() for cell in row if cell.strip()] for row in rows(what, page)]


def test_a_listener_shows_each_of_its_chains() -> None:
    page = dump("ListenersConfigDump", dynamic_listeners=[{"name": "x", "active_state": {"listener": LISTENER}}])
    assert cells("listeners", page) == [
        ["127.90.1.1_9080", "127.90.1.1:9080", "any", "cluster inbound|3306||"],
        ["127.90.1.1_9080", "127.90.1.1:9080", "tls istio", "route inbound|9080||"],
    ]


def test_routes_show_match_and_action_in_their_order() -> None:
    page = dump("RoutesConfigDump", dynamic_route_configs=[{"route_config": ROUTES}])
    assert [row[2:] for row in cells("routes", page)] == [
        ["00", "prefix / & header end-user", "answer 503"],
        ["01", "regex /a.*", "redirect"],
        ["02", "path /", "outbound|9080|v1|reviews 90, outbound|9080|v2|reviews 10"],
    ]


def test_clusters_show_the_parts_of_their_names() -> None:
    clusters = [
        {"cluster": {"name": "outbound|9080|v1|reviews.default.svc.cluster.local", "type": "EDS"}},
        {"cluster": {"name": "BlackHoleCluster", "type": "STATIC"}},
    ]
    page = dump("ClustersConfigDump", dynamic_active_clusters=clusters)
    assert cells("clusters", page) == [
        ["BlackHoleCluster", "-", "-", "-", "STATIC"],
        ["reviews.default.svc.cluster.local", "9080", "v1", "outbound", "EDS"],
    ]


def test_endpoints_show_who_is_ejected() -> None:
    address = {"socket_address": {"address": "127.90.1.2", "port_value": 9080}}
    hosts = [{"address": address, "health_status": {"failed_outlier_check": True, "eds_health_status": "HEALTHY"}}]
    page = {"cluster_statuses": [{"name": "outbound|9080||ratings", "host_statuses": hosts}]}
    assert cells("endpoints", page) == [["127.90.1.2:9080", "HEALTHY", "ejected", "outbound|9080||ratings"]]


def test_secrets_show_identity_and_validity() -> None:
    chain = {
        "serial_number": "0a1b",
        "subject_alt_names": [{"uri": "spiffe://cluster.local/ns/default/sa/web"}],
        "valid_from": "2026-01-01T00:00:00Z",
        "expiration_time": "2026-01-01T01:00:00Z",
    }
    assert cells("secrets", {"certificates": [{"cert_chain": [chain]}]}) == [
        [
            "certificate chain",
            "spiffe://cluster.local/ns/default/sa/web",
            "0a1b",
            "2026-01-01T00:00:00Z",
            "2026-01-01T01:00:00Z",
        ]
    ]


def test_an_empty_page_says_so() -> None:
    assert render("routes", resources("routes", {"configs": []})) == "no routes"

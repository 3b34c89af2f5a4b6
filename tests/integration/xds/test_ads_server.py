"""The ADS server over real gRPC and TLS, spoken to by a client that answers as it likes."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace

import grpc
from xdskit.client import Client, resource_names
from xdskit.mesh import BOOKINFO, objects
from xdskit.pki import Authority
from xdskit.serving import served

from mesh.api.meta import Resource
from mesh.api.pod import Pod, PodCondition
from mesh.xds.ads.server import DiscoveryServer
from mesh.xds.ads.status import SyncState, TypeState
from mesh.xds.types import XdsType

POD, ACCOUNT = "productpage-v1-5d4f-aaaaa", "bookinfo-productpage"
CDS, EDS, LDS, RDS = XdsType.CDS, XdsType.EDS, XdsType.LDS, XdsType.RDS
RULE = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: reviews}
spec: {host: reviews, subsets: [{name: v1, labels: {version: v1}}]}
"""
ROUTE = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec: {hosts: [reviews], http: [{route: [{destination: {host: reviews, subset: v1}}]}]}
"""
V1 = "outbound|9080|v1|reviews.default.svc.cluster.local"
REVIEWS = "outbound|9080||reviews.default.svc.cluster.local"


def run(scenario: Callable[[DiscoveryServer, Client], Awaitable[None]], account: str = ACCOUNT, pod: str = POD) -> None:
    async def main() -> None:
        authority = Authority()
        async with (
            served(authority, objects(BOOKINFO.read_text())) as (server, port),
            Client(authority, port, pod, account) as client,
        ):
            await scenario(server, client)

    asyncio.run(main())


def ready(resources: list[Resource], name: str, value: bool) -> Pod:
    pod = next(own for own in resources if isinstance(own, Pod) and own.name == name)
    condition = PodCondition(type="Ready", status=str(value))
    return replace(pod, status=replace(pod.status, conditions=(condition,)))


def test_a_proxy_gets_everything_in_order_and_is_synced() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        last = await client.subscribe_all()
        assert REVIEWS in resource_names(last[CDS])
        assert resource_names(last[LDS]) == ["127.64.1.1_9080", "http_proxy"]
        assert resource_names(last[RDS]) == ["http_proxy"]
        assert (await server.wait_synced(1, 5)).state is SyncState.SYNCED
        (status,) = server.proxies()
        assert status.id == f"{POD}.default"
        assert {own.type: own.state for own in status.types} == dict.fromkeys(
            ("CDS", "EDS", "LDS", "RDS"), TypeState.SYNCED
        )

    run(scenario)


def test_new_clusters_come_before_routes_and_old_ones_go_after() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        last = await client.subscribe_all()
        names = client.wanted(last, EDS)
        server.change(objects(RULE, ROUTE), [], 2)
        clusters = await client.response(CDS)
        assert V1 in resource_names(clusters)
        await client.ack(clusters)
        warming = await client.response(EDS)
        assert resource_names(warming) == [REVIEWS], "its cluster names the rule now, so the proxy warms it again"
        await client.ack(warming, *names, V1)
        endpoints = await client.response(EDS)
        assert resource_names(endpoints) == [V1]
        await client.ack(endpoints, *names, V1)
        routes = await client.response(RDS)
        assert V1 in str(routes)
        await client.ack(routes, "http_proxy")
        assert (await server.wait_synced(2, 5)).state is SyncState.SYNCED

        server.change([], objects(RULE, ROUTE), 3)
        clusters = await client.response(CDS)
        assert V1 in resource_names(clusters), "routes still lead to it"
        await client.ack(clusters)
        await client.ack(await client.response(EDS), *names, V1)
        routes = await client.response(RDS)
        assert V1 not in str(routes)
        await client.ack(routes, "http_proxy")
        clusters = await client.response(CDS)
        assert V1 not in resource_names(clusters)
        await client.ack(clusters)
        assert (await server.wait_synced(3, 5)).state is SyncState.SYNCED

    run(scenario)


def test_an_endpoint_change_pushes_endpoints_only() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        last = await client.subscribe_all()
        names = client.wanted(last, EDS)
        server.change([ready(objects(BOOKINFO.read_text()), "reviews-v2-7c7d-aaaaa", False)], [], 2)
        endpoints = await client.response(EDS)
        assert resource_names(endpoints) == [REVIEWS]
        assert "127.64.1.3" not in str(endpoints)
        await client.ack(endpoints, *names)
        assert (await server.wait_synced(2, 5)).state is SyncState.SYNCED
        pushes = next(metric for metric in server.metrics() if metric.name == "pilot_xds_pushes")
        counts = {labels[0][1]: value for labels, value in pushes.samples}
        assert counts == {"CDS": 1, "EDS": 2, "LDS": 1, "RDS": 1, "SDS": 0}

    run(scenario)


def test_a_change_that_changes_nothing_is_synced_without_a_push() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        await client.subscribe_all()
        server.change([], [], 7)
        assert (await server.wait_synced(7, 5)).state is SyncState.SYNCED

    run(scenario)


def test_a_refusal_is_reported_and_not_pushed_again_until_it_changes() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        last = await client.subscribe_all()
        server.change(objects(RULE), [], 2)
        await client.nack(await client.response(CDS), "no subsets here, please")
        await client.ack(await client.response(EDS), *client.wanted(last, EDS))
        result = await server.wait_synced(2, 5)
        assert result.state is SyncState.REJECTED
        assert [(own.proxy, own.type, own.message) for own in result.rejected] == [
            (f"{POD}.default", "CDS", "no subsets here, please")
        ]
        (status,) = server.proxies()
        assert [own.state for own in status.types if own.type == "CDS"] == [TypeState.NACK]
        server.change([], objects(RULE), 3)
        await client.ack(await client.response(CDS))
        await client.ack(await client.response(EDS), *client.wanted(last, EDS))
        assert (await server.wait_synced(3, 5)).state is SyncState.SYNCED
        assert [own.acked for own in server.proxies()[0].types if own.type == "CDS"] == [last[CDS].version_info]

    run(scenario)


def test_a_silent_proxy_is_late_and_does_not_hold_up_another() -> None:
    async def main() -> None:
        authority = Authority()
        async with (
            served(authority, objects(BOOKINFO.read_text())) as (server, port),
            Client(authority, port, POD, ACCOUNT) as silent,
            Client(authority, port, "ratings-v1-8e8f-aaaaa", "bookinfo-ratings") as quick,
        ):
            await silent.ask(CDS)
            await silent.response(CDS)
            await quick.subscribe_all()
            server.change([], [], 2)
            result = await server.wait_synced(2, 0.3)
            assert (result.state, result.late) == (SyncState.TIMEOUT, (f"{POD}.default",))

    asyncio.run(main())


def test_a_certificate_of_another_account_is_refused() -> None:
    async def scenario(_: DiscoveryServer, client: Client) -> None:
        await client.ask(CDS)
        code, details = await client.refusal()
        assert code is grpc.StatusCode.PERMISSION_DENIED
        assert "sa/bookinfo-productpage, but its certificate is for" in details
        assert "sa/bookinfo-ratings" in details

    run(scenario, account="bookinfo-ratings")


def test_a_node_without_a_pod_is_refused() -> None:
    async def scenario(_: DiscoveryServer, client: Client) -> None:
        await client.ask(CDS)
        assert await client.refusal() == (grpc.StatusCode.NOT_FOUND, "no pod ghost in namespace default")

    run(scenario, pod="ghost")


def test_a_stream_ends_when_its_pod_goes() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        await client.subscribe_all()
        gone = [own for own in objects(BOOKINFO.read_text()) if own.name == POD]
        server.change([], gone, 2)
        code, _ = await client.refusal()
        assert code is grpc.StatusCode.NOT_FOUND
        assert (await server.wait_synced(2, 5)).state is SyncState.SYNCED
        assert server.proxies() == ()

    run(scenario)


def test_a_pod_is_known_before_the_debounce_ends() -> None:
    async def scenario(server: DiscoveryServer, client: Client) -> None:
        pod = next(own for own in objects(BOOKINFO.read_text()) if own.name == POD)
        server.change([], [pod], 2)
        server.change([pod], [], 3)
        await client.subscribe_all()

    run(scenario)


def test_a_grpc_client_gets_what_it_asks_for_and_nothing_else() -> None:
    async def main() -> None:
        authority = Authority()
        async with (
            served(authority, objects(BOOKINFO.read_text(), RULE, ROUTE)) as (server, port),
            Client(authority, port, POD, ACCOUNT, grpc_client=True) as client,
        ):
            target = "reviews.default.svc.cluster.local:9080"
            await client.ask(LDS, target, "reviews:9080", "nobody:9080", "reviews:1")
            listeners = await client.response(LDS)
            assert resource_names(listeners) == [target, "reviews:9080"]
            await client.ack(listeners, target, "reviews:9080", "nobody:9080", "reviews:1")
            await client.ask(RDS, REVIEWS, "outbound|1||nobody", "http_proxy")
            routes = await client.response(RDS)
            assert resource_names(routes) == [REVIEWS]
            await client.ack(routes, REVIEWS)
            await client.ask(CDS, V1)
            clusters = await client.response(CDS)
            assert resource_names(clusters) == [V1]
            await client.ack(clusters, V1)
            await client.ask(EDS, V1)
            await client.ack(await client.response(EDS), V1)
            assert (await server.wait_synced(1, 5)).state is SyncState.SYNCED
            server.change([], objects(ROUTE), 2)
            routes = await client.response(RDS)
            assert V1 not in str(routes)

    asyncio.run(main())

"""Which stats are shown and with which tags, and what a StatsD server is sent."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import Bootstrap
from envoy.config.metrics.v3.stats_pb2 import StatsConfig
from google.protobuf.json_format import ParseDict

from mesh.proxy.compile.stats_config import compile_view
from mesh.proxy.compile.stats_sinks import compile_sinks
from mesh.proxy.fields import Place
from mesh.proxy.observe.stats import Histogram, Sample
from mesh.proxy.observe.statsd import Dialect, Lines, SinkConfig, StatsdSink, datagrams
from mesh.proxy.resources import Refused

PLACE = Place("Bootstrap", "b")
NAME = "cluster.outbound|9080||reviews.upstream_rq_total"
TOTAL = Sample(NAME, "cluster.upstream_rq_total", (("envoy.cluster_name", "outbound|9080||reviews"),), "counter", 3)
ACTIVE = Sample("http.in.downstream_cx_active", "http.downstream_cx_active", (("prefix", "in"),), "gauge", 2)
REQUESTS = Sample("istio_requests_total", "istio_requests_total", (("reporter", "source"),), "counter", 5, True)
ALL = [TOTAL, ACTIVE, REQUESTS]


def seen(config: dict[str, Any]) -> list[tuple[str, tuple[tuple[str, str], ...]]]:
    view = compile_view(ParseDict(config, StatsConfig()), PLACE)
    return [(sample.base, sample.tags) for sample in view.of(ALL)]


def test_everything_is_shown_as_it_is_by_default() -> None:
    assert seen({}) == [(sample.base, sample.tags) for sample in ALL]


@pytest.mark.parametrize(
    ("matcher", "shown"),
    [
        ({"reject_all": True}, [REQUESTS]),
        ({"inclusion_list": {"patterns": [{"prefix": "cluster."}]}}, [TOTAL, REQUESTS]),
        ({"exclusion_list": {"patterns": [{"suffix": "_total"}]}}, [ACTIVE, REQUESTS]),
        ({"inclusion_list": {"patterns": [{"safe_regex": {"regex": ".*_cx_.*"}}]}}, [ACTIVE, REQUESTS]),
    ],
)
def test_a_matcher_chooses_by_name(matcher: dict[str, Any], shown: list[Sample]) -> None:
    view = compile_view(ParseDict({"stats_matcher": matcher}, StatsConfig()), PLACE)
    assert view.of(ALL) == view.of(ALL) == shown


def test_tags_of_its_own_replace_the_default_ones() -> None:
    """As Istio's bootstrap has them: the first group is taken out of the name, the second is the tag."""
    config = {
        "use_all_default_tags": False,
        "stats_tags": [
            {"tag_name": "cluster_name", "regex": "^cluster\\.((.+?(\\..+?\\.svc\\.cluster\\.local)?)\\.)"},
            {"tag_name": "mesh", "fixed_value": "m"},
        ],
    }
    assert seen(config) == [
        ("cluster.upstream_rq_total", (("mesh", "m"), ("cluster_name", "outbound|9080||reviews"))),
        ("http.in.downstream_cx_active", (("mesh", "m"),)),
        ("istio_requests_total", (("reporter", "source"),)),
    ]


def test_a_default_tag_can_be_chosen_by_its_name() -> None:
    config = {"use_all_default_tags": False, "stats_tags": [{"tag_name": "envoy.cluster_name"}]}
    assert seen(config)[:2] == [(TOTAL.base, TOTAL.tags), (ACTIVE.name, ())]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        ({"stats_tags": [{"tag_name": "t", "regex": "("}]}, "stats_tags\\[0\\].regex: bad regex"),
        ({"stats_tags": [{"tag_name": "t", "regex": "x"}]}, "a group is required"),
        ({"histogram_bucket_settings": [{"buckets": [1]}]}, "histogram_bucket_settings: not supported"),
    ],
)
def test_what_cannot_be_honoured_is_refused(config: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        compile_view(ParseDict(config, StatsConfig()), PLACE)


def sink(dialect: Dialect = Dialect.PLAIN, **fields: Any) -> SinkConfig:
    return SinkConfig(
        **{"address": "127.0.0.1", "port": 1, "is_tcp": False, "prefix": "p", "dialect": dialect} | fields
    )


def test_counters_are_sent_as_what_was_added() -> None:
    lines = Lines(sink())
    sent = [list(lines.of([TOTAL._replace(value=value)])) for value in (3, 3, 5, 1)]
    name = b"p.cluster.outbound_9080__reviews.upstream_rq_total"
    assert sent == [[name + b":3|c\n"], [], [name + b":2|c\n"], [name + b":1|c\n"]]  # the last after a reset


def test_histograms_are_sent_as_the_buckets_that_grew() -> None:
    lines, histogram = Lines(sink()), Histogram((1.0, 10.0))

    def sent() -> list[bytes]:
        return list(lines.of([Sample("h", "h", (), "histogram", histogram.value())]))

    for value in (0.5, 5, 5, 99):
        histogram.record(value)
    assert sent() == [b"p.h:1|ms\n", b"p.h:10|ms|@0.5\n", b"p.h:10|ms\n"]
    histogram.record(5)
    assert sent() == [b"p.h:10|ms\n"]
    assert sent() == []


def test_tags_in_each_dialect() -> None:
    assert list(Lines(sink(Dialect.DOG)).of([ACTIVE])) == [b"p.http.downstream_cx_active:2|g|#prefix:in\n"]
    assert list(Lines(sink(Dialect.GRAPHITE)).of([ACTIVE])) == [b"p.http.downstream_cx_active;prefix=in:2|g\n"]
    assert list(Lines(sink()).of([REQUESTS])) == [b"p.istio_requests_total:5|c|#reporter:source\n"]


def test_lines_share_datagrams_that_have_room() -> None:
    lines = [b"a:1|c\n", b"b:1|c\n", b"c:1|c\n"]
    assert list(datagrams(lines, 12)) == [b"a:1|c\nb:1|c", b"c:1|c"]
    assert list(datagrams(lines, 0)) == [b"a:1|c", b"b:1|c", b"c:1|c"]


def test_a_server_gets_them_over_udp_and_over_tcp() -> None:
    async def scene() -> None:
        loop = asyncio.get_running_loop()
        datagram: asyncio.Future[bytes] = loop.create_future()
        stream: asyncio.Future[bytes] = loop.create_future()

        class Received(asyncio.DatagramProtocol):
            def datagram_received(self, data: bytes, addr: Any) -> None:
                if not datagram.done():
                    datagram.set_result(data)

        async def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            stream.set_result(await reader.readline())
            writer.close()

        udp, _ = await loop.create_datagram_endpoint(Received, local_addr=("127.0.0.1", 0))
        async with asyncio.timeout(10), await asyncio.start_server(accepted, "127.0.0.1", 0) as tcp:
            await StatsdSink(sink(port=udp.get_extra_info("sockname")[1])).send([ACTIVE])
            over_tcp = StatsdSink(sink(port=tcp.sockets[0].getsockname()[1], is_tcp=True))
            await over_tcp.send([ACTIVE])
            assert await datagram == b"p.http.in.downstream_cx_active:2|g"
            assert await stream == b"p.http.in.downstream_cx_active:2|g\n"
            over_tcp.close()
        udp.close()

    asyncio.run(scene())


def bootstrap(*sinks: dict[str, Any]) -> Bootstrap:
    return ParseDict({"node": {"id": "n"}, "stats_sinks": list(sinks)}, Bootstrap())


def statsd(kind: str, **fields: Any) -> dict[str, Any]:
    return {"name": "s", "typed_config": {"@type": f"type.googleapis.com/envoy.config.metrics.v3.{kind}", **fields}}


UDP = {"socket_address": {"protocol": "UDP", "address": "127.0.0.1", "port_value": 8125}}


def test_sinks_of_a_bootstrap() -> None:
    configs = compile_sinks(
        bootstrap(statsd("StatsdSink", address=UDP), statsd("DogStatsdSink", address=UDP, prefix="q"))
    )
    assert [(each.dialect, each.prefix, each.port) for each in configs] == [
        (Dialect.PLAIN, "envoy", 8125),
        (Dialect.DOG, "q", 8125),
    ]


@pytest.mark.parametrize(
    ("kind", "fields", "reason"),
    [
        ("StatsdSink", {}, "address: required"),
        ("StatsdSink", {"tcp_cluster_name": "c"}, "'c' is no static cluster"),
        ("StatsdSink", {"address": {"pipe": {"path": "/x"}}}, "pipe: not supported"),
        ("HystrixSink", {}, "stats sink s .*HystrixSink.* is not supported"),
    ],
)
def test_sinks_that_cannot_be_honoured_are_refused(kind: str, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(Refused, match=reason):
        compile_sinks(bootstrap(statsd(kind, **fields)))

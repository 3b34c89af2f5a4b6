"""The bootstrap's `cluster_manager.upstream_bind_config`, and whose sockets it reaches."""

from __future__ import annotations

import pytest
from envoy.config.bootstrap.v3.bootstrap_pb2 import ClusterManager
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from google.protobuf.json_format import ParseDict

from mesh.proxy.compile.bind_config import compile_bind_config
from mesh.proxy.compile.clusters import compile_cluster
from mesh.proxy.fields import Place
from mesh.proxy.resources import Refused

MARK = (1, 36, 1337)
PLACE = Place("Bootstrap", "b").at("cluster_manager")


def manager(**option: object) -> ClusterManager:
    whole = {"level": "1", "name": "36", "intValue": "1337", **option}
    return ParseDict({"upstreamBindConfig": {"socketOptions": [whole]}}, ClusterManager())


def options(**fields: object) -> tuple[tuple[int, int, int], ...]:
    cluster = ParseDict({"name": "c", "type": "STATIC", **fields}, Cluster())
    return compile_cluster(cluster, Place("Cluster", "c"), (MARK,)).config.socket_options


def test_options_are_read_in_order() -> None:
    assert compile_bind_config(manager(), PLACE) == (MARK,)
    assert compile_bind_config(ClusterManager(), PLACE) == ()


def test_what_would_not_be_set_is_refused_by_name() -> None:
    with pytest.raises(Refused, match="state"):
        compile_bind_config(manager(state="STATE_LISTENING"), PLACE)
    with pytest.raises(Refused, match="buf_value"):
        compile_bind_config(manager(intValue=None, bufValue="eA=="), PLACE)
    with pytest.raises(Refused, match="local_cluster_name"):
        compile_bind_config(ClusterManager(local_cluster_name="c"), PLACE)


def test_they_are_every_clusters_but_those_with_a_bind_config_of_their_own() -> None:
    assert options() == (MARK,)
    keepalive = {"upstreamConnectionOptions": {"tcpKeepalive": {}}}
    assert options(**keepalive)[0] == MARK
    assert len(options(**keepalive)) == 2
    assert options(upstreamBindConfig={"sourceAddress": {"address": "127.0.0.6", "portValue": 0}}) == ()

"""The small parts of the operations side: references, secrets in files, back-off, log levels, redaction, frames."""

from __future__ import annotations

import json
import logging
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from envoy.config.cluster.v3.cluster_pb2 import Cluster
from envoy.config.core.v3.base_pb2 import DataSource
from envoy.config.listener.v3.listener_pb2 import Listener
from envoy.extensions.transport_sockets.tls.v3.tls_pb2 import DownstreamTlsContext, UpstreamTlsContext

from mesh.proxy import logs
from mesh.proxy.operations import ipc, references
from mesh.proxy.operations.admin import config_dump
from mesh.proxy.operations.xds_client.backoff import Backoff
from mesh.proxy.resources import Refused, Resources
from mesh.proxy.tls import secrets

KEY = "-----BEGIN PRIVATE KEY-----"


def sds_file(path: Path, *resources: object) -> Path:
    path.write_text(json.dumps({"version_info": "7", "resources": resources}))
    return path


def pair(name: str, **key: str) -> dict[str, object]:
    kind = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
    certificate = {"certificate_chain": {"inline_string": "chain"}, "private_key": key}
    return {"@type": kind, "name": name, "tls_certificate": certificate}


def test_a_secret_is_read_with_the_files_it_names(tmp_path: Path) -> None:
    (tmp_path / "key.pem").write_text(KEY)
    path = sds_file(tmp_path / "s.json", pair("other"), pair("default", filename=str(tmp_path / "key.pem")))
    secret, version = secrets.read(path, "default")
    assert (secret.tls_certificate.private_key.inline_bytes, version) == (KEY.encode(), "7")
    assert secret.tls_certificate.certificate_chain.inline_bytes == b"chain"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "No such file"),
        ("{", "not a DiscoveryResponse with Secrets"),
        (json.dumps({"resources": [pair("default", nonsense=KEY)]}), "not a DiscoveryResponse with Secrets"),
        (json.dumps({"resources": [pair("other")]}), "holds no secret called 'default'"),
        (json.dumps({"resources": [pair("default", filename="/nope/key.pem")]}), "/nope/key.pem: No such file"),
        (json.dumps({"resources": [pair("default", environment_variable="NO_SUCH_VARIABLE")]}), "NO_SUCH_VARIABLE"),
        (" " * (secrets.LARGEST_FILE + 1), "larger than"),
    ],
)
def test_a_secret_that_cannot_be_had_says_why_and_nothing_of_itself(
    tmp_path: Path, content: str | None, said: str
) -> None:
    path = tmp_path / "s.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(secrets.SecretError) as error:
        secrets.read(path, "default")
    assert said in str(error.value)
    assert KEY not in str(error.value)


def test_an_empty_data_source_is_no_bytes() -> None:
    assert secrets.content(DataSource()) == b""


def test_references_of_a_cluster_are_its_endpoints_and_the_secrets_of_every_transport() -> None:
    context = UpstreamTlsContext()
    config = context.common_tls_context.tls_certificate_sds_secret_configs.add(name="default")
    config.sds_config.path_config_source.path = "secrets/default.json"
    context.common_tls_context.combined_validation_context.validation_context_sds_secret_config.name = "static-root"
    cluster = Cluster(name="a", type=Cluster.EDS)
    cluster.transport_socket_matches.add().transport_socket.typed_config.Pack(context)
    found = {(each.kind, each.name) for each in references.of_cluster(cluster)}
    assert found == {(references.ENDPOINT, "a"), (references.SECRET, "default")}  # a static secret is not waited for


def test_references_of_a_listener_reach_into_the_default_chain() -> None:
    context = DownstreamTlsContext()
    config = context.common_tls_context.validation_context_sds_secret_config
    config.name = "ROOTCA"
    config.sds_config.ads.SetInParent()
    listener = Listener(name="in")
    listener.default_filter_chain.transport_socket.typed_config.Pack(context)
    assert {each.name for each in references.of_listener(listener)} == {"ROOTCA"}
    assert [each.validation_context_sds_secret_config.name for each in
            references.tls_contexts(Resources(listeners={"in": listener}))] == ["ROOTCA"]  # fmt: skip


def test_a_transport_that_cannot_be_read_is_left_to_the_compiler() -> None:
    cluster = Cluster(name="a")
    cluster.transport_socket.typed_config.Pack(UpstreamTlsContext())
    cluster.transport_socket.typed_config.value = b"\xff"
    assert not references.of_cluster(cluster)


def test_back_off_doubles_to_its_limit_and_begins_anew() -> None:
    class Longest(random.Random):
        def uniform(self, a: float, b: float) -> float:
            return b

    backoff = Backoff(0.5, 3.0, Longest())
    assert [backoff.next_s() for _ in range(5)] == [0.5, 1.0, 2.0, 3.0, 3.0]
    backoff.reset()
    assert backoff.next_s() == 0.5


def test_back_off_is_jittered_from_nothing_to_the_ceiling() -> None:
    backoff = Backoff(1.0, 1.0, random.Random(7))
    waits = [backoff.next_s() for _ in range(1000)]
    assert 0 <= min(waits) < 0.05
    assert 0.95 < max(waits) <= 1.0


@pytest.fixture
def restored_levels() -> Iterator[None]:
    before = {name: logs.logger(name).level for name in logs.COMPONENTS}
    yield
    for name, level in before.items():
        logs.logger(name).setLevel(level)


@pytest.mark.usefixtures("restored_levels")
def test_levels_are_set_by_component_and_named_as_envoy_names_them() -> None:
    logs.set_level("admin", "trace")
    logs.set_level("config", "off")
    assert (logs.levels()["admin"], logs.levels()["config"]) == ("trace", "off")
    assert not logs.logger("config").isEnabledFor(logging.CRITICAL)
    assert logs.logger("admin").isEnabledFor(logs.TRACE)


def test_redaction_hides_keys_wherever_they_are() -> None:
    tree = {
        "bootstrap": {
            "tls_certificates": [{"private_key": {"inline_string": KEY}, "certificate_chain": {"filename": "c"}}]
        },
        "secret": {"@type": "Secret", "name": "default", "generic_secret": {"secret": {"inline_bytes": KEY}}},
    }
    hidden = config_dump.redact(tree)
    assert KEY not in json.dumps(hidden)
    assert hidden["bootstrap"]["tls_certificates"][0]["certificate_chain"] == {"filename": "c"}
    assert hidden["secret"]["name"] == "default"


def test_a_message_that_stays_the_same_stays_the_same_object_across_the_socket() -> None:
    decoder = ipc.Decoder()
    first = decoder.decode(ipc.encode(Resources(clusters={"a": Cluster(name="a"), "b": Cluster(name="b")})))
    second = decoder.decode(
        ipc.encode(Resources(clusters={"a": Cluster(name="a"), "b": Cluster(name="b", alt_stat_name="x")}))
    )
    assert second.clusters["a"] is first.clusters["a"]
    assert second.clusters["b"].alt_stat_name == "x"


def test_a_refusal_reads_as_a_nack_should() -> None:
    assert str(Refused("Listener", "in", "filter_chains[0]", "no")) == 'Listener "in": filter_chains[0]: no'
    assert str(Refused("Listener", "in", "", "no")) == 'Listener "in": no'

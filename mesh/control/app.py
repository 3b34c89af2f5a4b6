"""Brings the control plane up in order, and down again when told to."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine, Iterator
from datetime import UTC, datetime

import grpc

from mesh.ca.authority import ServerCredentials
from mesh.ca.folder import CertificateAuthority, open_ca
from mesh.config.store import Store
from mesh.control.errors import SetupError
from mesh.control.http.auth import authentication
from mesh.control.http.health import HealthApi
from mesh.control.http.identity import IdentityApi
from mesh.control.http.names import NamesApi
from mesh.control.http.objects import ObjectsApi
from mesh.control.http.proxies import ProxiesApi
from mesh.control.http.server import ApiServer, tls_context
from mesh.control.http.watches import Watches
from mesh.control.metrics import Family
from mesh.control.options import Options
from mesh.control.publish import expire_leases, publish_changes
from mesh.control.state import StateFolder, open_state
from mesh.snapshot.options import MeshOptions
from mesh.xds.ads.server import DiscoveryServer

logger = logging.getLogger(__name__)


async def run(options: Options) -> None:
    """Serve until SIGTERM or SIGINT. Raises SetupError, CaError or ConfigError when it cannot start."""
    with open_state(options.state) as state:
        ca = open_ca(state.ca)
        with contextlib.closing(Store(state.store, cluster_ips=options.cluster_ips)) as store:
            await _serve(options, state, ca, store)


async def _serve(options: Options, state: StateFolder, ca: CertificateAuthority, store: Store) -> None:
    now = datetime.now(UTC)
    credentials = ca.certificates.issue_server(options.address, now)
    store.expire(now)  # Leases that ended while nobody ran must not be seen by anyone.
    ads = DiscoveryServer(MeshOptions())
    ads.load([manifest.resource for manifest in store.everything()], store.version)
    changes = store.watch()
    api = _api(state, ca, store, ads)
    async with contextlib.AsyncExitStack() as running:
        running.push_async_callback(ads.stop, 0.0)  # Streams never end by themselves: there is nothing to wait for.
        xds_port = await _start_ads(ads, options, credentials, ca)
        running.push_async_callback(api.stop)
        api_port = await api.start(options.address, options.api_port, tls_context(credentials, state.path))
        logger.info("ready: API https://%s:%s, ADS port %s", options.address, api_port, xds_port)
        await _until_told_to_stop(publish_changes(changes, ads), expire_leases(store))
        logger.info("stopping")


def _api(state: StateFolder, ca: CertificateAuthority, store: Store, ads: DiscoveryServer) -> ApiServer:
    watches = Watches(store)
    identity = IdentityApi(ca, store)

    def families() -> Iterator[Family]:
        yield identity.asked.family()
        yield identity.issued.family()
        yield server.requests.family()
        for metric in ads.metrics():
            yield Family(metric.name, metric.help, metric.type, dict(metric.samples))

    names = NamesApi(ads)
    rooms = (HealthApi(families), identity, ProxiesApi(ads, store), names, ObjectsApi(store, watches))
    routes = [route for room in rooms for route in room.routes()]
    server = ApiServer(routes, authentication(state.admin_token(), ca.tokens), watches.close, names.close)
    return server


async def _start_ads(
    ads: DiscoveryServer, options: Options, credentials: ServerCredentials, ca: CertificateAuthority
) -> int:
    """Listen for proxies that show a certificate of this mesh; the port. Raises SetupError."""
    mutual_tls = grpc.ssl_server_credentials(
        [(credentials.key, credentials.chain)],
        root_certificates=ca.certificates.root_pem.encode(),
        require_client_auth=True,
    )
    try:
        return await ads.start(options.address, options.xds_port, mutual_tls)
    except OSError as error:
        where = f"{options.address}:{options.xds_port}"
        # gRPC does not say which of the two it is.
        raise SetupError(f"cannot listen on {where} for ADS: it is taken, or not this machine's address") from error


async def _until_told_to_stop(*jobs: Coroutine[None, None, None]) -> None:
    """Run `jobs` until SIGTERM or SIGINT; the failure of one is the failure of the process."""
    told = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(job) for job in jobs]
        await told.wait()
        for task in tasks:
            task.cancel()

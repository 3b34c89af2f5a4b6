"""Where a request's time goes in the sidecar's own code: `python -m benchmarks.profile [--functions NAME]`.

Everything is in memory (`benchmarks.memory`), no sockets and no kernel: what is left is the interpreter's part and
OpenSSL's. `plain`, `mesh`, `mtls` and `istio` are the scenarios of `benchmarks.proxy`, the last two with both of their
proxies; between the first two stands `plain` with one feature of `mesh` at a time, so the difference to `plain` is what
that feature costs. Microseconds of CPU are the least of many batches, with the variants taking turns, so that what else
the machine does hardly shows.
"""

from __future__ import annotations

import asyncio
import cProfile
import pstats
import tempfile
import time
from collections.abc import Callable
from pathlib import Path as Folder

import click

from benchmarks import scenarios
from benchmarks.certificates import make_certificates
from benchmarks.memory import Path
from benchmarks.scenarios import SCENARIOS, Json, Layout, manager, near

BATCH = 500
WHOLE = ("plain", "mesh", "mtls", "istio")
FEATURES: dict[str, Callable[[Json, Json], None]] = {
    "fault filter": lambda http, canary: http["http_filters"].insert(0, scenarios.FAULT),
    "weighted split": lambda http, canary: _route(http, {"route": _without_headers(canary["route"])}),
    "header edits": lambda http, canary: _route(http, _edits(canary)),
    "access log": lambda http, canary: http.update(access_log=[scenarios.access_log()]),
    "tracing": lambda http, canary: http.update(
        tracing={"random_sampling": {"value": 1}, "provider": scenarios.zipkin()}
    ),
}
NAMES = ("plain", *FEATURES, *WHOLE[1:])


def variant(name: str, folder: Folder) -> Path:
    """A scenario, or `plain` with one feature of `mesh`; certificates come from the folder."""
    layout = Layout("127.0.0", folder)
    if name in WHOLE:
        return Path(SCENARIOS[name].proxies(layout))
    entry = scenarios.listener(near(layout), scenarios.ENTRY_PORT, [scenarios.to("v1")])
    FEATURES[name](manager(entry), scenarios.canary())
    clusters = scenarios.mesh(layout)[0].bootstrap["static_resources"]["clusters"]
    return Path([scenarios.proxy(near(layout), entry, clusters)])


def _route(http: Json, fields: Json) -> None:
    http["route_config"]["virtual_hosts"][0]["routes"][0].update(fields)


def _without_headers(route: Json) -> Json:
    clusters = [{"name": each["name"], "weight": each["weight"]} for each in route["weighted_clusters"]["clusters"]]
    return {"weighted_clusters": {"clusters": clusters}}


def _edits(canary: Json) -> Json:
    fields = {name: value for name, value in canary.items() if "headers" in name}
    fields["response_headers_to_add"] = canary["route"]["weighted_clusters"]["clusters"][0]["response_headers_to_add"]
    return fields


def batch(path: Path) -> float:
    """Microseconds a request."""
    begun = time.thread_time()
    for _ in range(BATCH):
        path.request()
    return (time.thread_time() - begun) / BATCH * 1e6


async def measure(names: tuple[str, ...], batches: int, folder: Folder) -> None:
    """Print the table of variants."""
    made = {name: variant(name, folder) for name in names}
    for path in made.values():
        await path.warm_up(BATCH)
    least = dict.fromkeys(made, float("inf"))
    for _ in range(batches):
        for name, path in made.items():
            least[name] = min(least[name], batch(path))
        await asyncio.sleep(0)
    plain, mesh = least.get("plain"), least.get("mesh")
    for name, us in least.items():
        over = "" if plain is None else f" {us - plain:+8.2f} us"
        share = "" if mesh is None else f" {us / mesh * 100:6.0f} % of mesh"
        click.echo(f"{name:<16}{us:8.2f} us{over}{share}")


async def functions(name: str, batches: int, folder: Folder) -> None:
    """Print the functions of a variant that take most time of their own, with cProfile's overhead in them."""
    path = variant(name, folder)
    await path.warm_up(BATCH)
    profile = cProfile.Profile()
    profile.enable()
    for _ in range(batches):
        batch(path)
    profile.disable()
    pstats.Stats(profile).sort_stats("tottime").print_stats(45)


@click.command()
@click.option("--batches", default=200, show_default=True, help=f"Batches of {BATCH} requests of each variant.")
@click.option("--variant", "names", multiple=True, type=click.Choice(NAMES), help="Only these.")
@click.option("--functions", "name", type=click.Choice(NAMES), help="Show the functions of this variant instead.")
def main(*, batches: int, names: tuple[str, ...], name: str | None) -> None:
    """Tell what each feature of the mesh scenario costs a request, and what the scenarios with two proxies do."""
    with tempfile.TemporaryDirectory(prefix="meshdrill-profile-") as temporary:
        folder = make_certificates(Folder(temporary))
        asyncio.run(measure(names or NAMES, batches, folder) if name is None else functions(name, batches, folder))


if __name__ == "__main__":
    main()

"""Options that several verbs share."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

_F = TypeVar("_F", bound=Callable[..., Any])

DEFAULT_NAME = "default"


def state_folder(state: Path | None, name: str) -> Path:
    """`--state`, else `$MESHDRILL_STATE`, else the folder of the mesh called `name`."""
    if state is not None:
        return state.resolve()
    if given := os.environ.get("MESHDRILL_STATE"):
        return Path(given).resolve()
    base = os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state"
    return Path(base) / "meshdrill" / name


def mesh_options(function: _F) -> _F:
    """`--name` and `--state`, handed on as one argument `state`."""
    function = click.option(
        "--state",
        type=click.Path(path_type=Path, file_okay=False),
        help="The mesh's state folder; by default $MESHDRILL_STATE, or ~/.local/state/meshdrill/NAME.",
    )(function)
    return click.option(
        "--name", default=DEFAULT_NAME, show_default=True, help="Which mesh, where several run on this machine."
    )(function)


def engine_option(function: _F) -> _F:
    """`--proxy`, handed on as `engine`."""
    return click.option(
        "--proxy",
        "engine",
        type=click.Choice(["python", "envoy"]),
        default="python",
        show_default=True,
        help="What runs as sidecar: ours, or the real Envoy.",
    )(function)


def port_option(function: _F) -> _F:
    """`--port`, of the ingress gateway."""
    return click.option(
        "--port",
        type=click.IntRange(1, 65535),
        default=9080,
        show_default=True,
        help="Port of the ingress gateway on 127.0.0.1.",
    )(function)


def platform_option(function: _F) -> _F:
    """`--platform`; None where nobody chose one."""
    return click.option(
        "--platform",
        type=click.Choice(["netns", "docker", "process"]),
        envvar="MESHDRILL_PLATFORM",
        show_envvar=True,
        help="What a pod is: a network namespace or containers, all traffic led through the sidecar; or processes on "
        "loopback. By default netns where it works, else process.",
    )(function)


def file_option(*, required: bool, help_text: str) -> Callable[[_F], _F]:
    """`-f`, several times; a file, a folder or `-`."""
    return click.option("-f", "--filename", "files", multiple=True, required=required, metavar="FILE", help=help_text)


def output_option(*formats: str) -> Callable[[_F], _F]:
    return click.option(
        "-o", "--output", type=click.Choice(formats or ("json", "yaml")), help="For scripts, instead of a table."
    )

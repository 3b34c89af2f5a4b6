"""The `meshdrill` command: finds a verb's file only when the verb is used, so that `--help` is quick."""

import difflib
import importlib
import sys

import click

_VERBS = {
    "up": "start a mesh: Bookinfo, or your own manifests",
    "down": "end the mesh and everything in it",
    "status": "show the mesh, its pods and its proxies",
    "apply": "create or change resources from files",
    "get": "show resources",
    "delete": "delete resources",
    "register": "make a server outside of the mesh a service",
    "deregister": "take such a server away again",
    "analyze": "check manifests for mistakes, with no mesh needed",
    "proxy-status": "show what each sidecar was sent and has taken",
    "proxy-config": "show a sidecar's listeners, routes, clusters, endpoints or secrets",
    "grpc-bootstrap": "show what gRPC's own xDS client needs to be a pod's",
    "logs": "show a container's output",
    "images": "build what the docker platform runs",
    "compose": "write a mesh as a file for docker compose",
    "drill": "list and run drills",
    "demo": "Bookinfo under load through every drill",
    "version": "show the version",
}


class _Verbs(click.Group):
    """Each verb is `command` in the module of its name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in _VERBS:
            return None
        module = importlib.import_module(f"mesh.cli.{cmd_name.replace('-', '_')}")
        command = module.command
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            if near := difflib.get_close_matches(args[0], _VERBS, n=1):
                raise click.UsageError(f"{error.message.rstrip('.')}; did you mean '{near[0]}'?", ctx) from error
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl(list(_VERBS.items()))


@click.group(cls=_Verbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="meshdrill", message="%(package)s %(version)s")
def cli() -> None:
    """Rehearse canaries, faults, mTLS and circuit breaking on a service mesh of your own.

    \b
    meshdrill up                      Bookinfo on the mesh, http://127.0.0.1:9080/productpage
    meshdrill apply -f canary.yaml --wait
    meshdrill demo                    everything, with verdicts
    """


def main() -> None:
    """The console script. Exit code 1 for an error, told in one message; 2 for wrong usage."""
    from mesh.cli.errors import told  # noqa: PLC0415 - kept out of --help

    try:
        code = cli.main(standalone_mode=False)
    except click.exceptions.Exit as end:
        sys.exit(end.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except BrokenPipeError:
        sys.exit(141)
    except Exception as error:
        message = told(error)
        if message is None:
            raise
        click.echo(f"Error: {message}", err=True)
        sys.exit(1)
    sys.exit(code if isinstance(code, int) else 0)


if __name__ == "__main__":
    main()

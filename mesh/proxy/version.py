"""Which version of the sidecar this is."""

from __future__ import annotations


def version() -> str:
    """`meshdrill/<version>`."""
    # Imported here: it costs 2 MiB, and only one page shows the version.
    from importlib.metadata import PackageNotFoundError  # noqa: PLC0415
    from importlib.metadata import version as installed  # noqa: PLC0415

    try:
        return f"meshdrill/{installed('meshdrill')}"
    except PackageNotFoundError:  # run from a source tree
        return "meshdrill/unknown"

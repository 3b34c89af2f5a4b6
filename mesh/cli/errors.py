"""Which errors are the user's to read, and how they are told."""


class Failure(Exception):
    """A verb cannot do what it was asked. The text is for the user."""


def told(error: BaseException) -> str | None:
    """One message for an error that a user can act upon; None for a mistake of ours, which wants a traceback."""
    if isinstance(error, BaseExceptionGroup):
        messages = [told(inner) for inner in error.exceptions]
        known = list(dict.fromkeys(message for message in messages if message is not None))
        return "\n".join(known) if known and None not in messages else None
    if isinstance(error, OSError) and error.filename is not None:
        return f"{error.filename}: {error.strerror}"
    return str(error) if isinstance(error, _ours()) else None


def _ours() -> tuple[type[BaseException], ...]:
    """Looked up late: by the time something failed, what could raise these has been imported anyway."""
    from chaos.errors import ChaosError  # noqa: PLC0415
    from mesh.client import MeshError  # noqa: PLC0415
    from mesh.config.problems import InvalidError  # noqa: PLC0415
    from mesh.platforms.base import PlatformError  # noqa: PLC0415

    return ChaosError, Failure, MeshError, InvalidError, PlatformError

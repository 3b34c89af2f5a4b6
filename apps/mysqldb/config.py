"""Settings of the database."""

from __future__ import annotations

import os
import tempfile
from dataclasses import dataclass
from pathlib import Path

from apps.common.settings import SettingError, Settings

_SHARED_MEMORY = "/dev/shm"  # noqa: S108  # a container's own, and gone with it however that ends


@dataclass(frozen=True)
class Config:
    """`data` is the folder in which the server's own is made; every query takes at least `delay_seconds`."""

    host: str
    port: int
    password: str
    data: Path
    delay_seconds: float

    @classmethod
    def read(cls, settings: Settings) -> Config:
        """From HOST, PORT, MYSQL_ROOT_PASSWORD, DATA_FOLDER (default: in memory where possible) and DELAY_SECONDS."""
        password = settings.text("MYSQL_ROOT_PASSWORD", "")
        if not password:
            raise SettingError("MYSQL_ROOT_PASSWORD is not set")
        if not password.isprintable():
            raise SettingError("MYSQL_ROOT_PASSWORD holds what cannot be printed")
        default = _SHARED_MEMORY if os.access(_SHARED_MEMORY, os.W_OK) else tempfile.gettempdir()
        data = Path(settings.text("DATA_FOLDER", default))
        if not data.is_dir():
            raise SettingError(f"DATA_FOLDER={str(data)!r} is no folder")
        return cls(
            host=settings.text("HOST", "0.0.0.0"),  # noqa: S104  # the pod's network is the boundary
            port=settings.integer("PORT", 3306, 1, 65535),
            password=password,
            data=data,
            delay_seconds=settings.number("DELAY_SECONDS", 0, 0, 3600),
        )

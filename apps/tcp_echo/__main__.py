import os
import sys

from apps.common.settings import SettingError, Settings

from .config import Config
from .server import serve

try:
    serve(Config.read(Settings(os.environ)))
except SettingError as error:
    print(f"tcp_echo: {error}", file=sys.stderr)  # noqa: T201
    sys.exit(2)
except OSError as error:
    print(f"tcp_echo: cannot listen: {error.strerror}", file=sys.stderr)  # noqa: T201
    sys.exit(1)

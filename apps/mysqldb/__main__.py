import os
import sys

from apps.common.settings import SettingError, Settings

from .config import Config
from .server import InstallError, run


def main() -> int:
    """The server's exit code; 2 for a setting that cannot be used, 1 where there is no MariaDB."""
    try:
        return run(Config.read(Settings(os.environ)))
    except SettingError as error:
        message, code = str(error), 2
    except FileNotFoundError as error:
        message, code = f"{error.filename} is not there; install MariaDB (Debian: mariadb-server)", 1
    except InstallError as error:
        message, code = f"the data folder cannot be made:\n{error}", 1
    print(f"mysqldb: {message}", file=sys.stderr)  # noqa: T201
    return code


sys.exit(main())

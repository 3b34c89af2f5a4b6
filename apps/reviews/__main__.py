import sys

from apps.common.main import main

from .app import create_app
from .config import Config

sys.exit(main("reviews", Config.read, create_app))

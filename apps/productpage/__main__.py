import sys

from apps.common.main import main

from .app import create_app
from .config import Config

sys.exit(main("productpage", Config.read, create_app, threads=32))

"""Finds the generated module of a message that an `Any` names, and imports it only then.

Importing every extension of Envoy would cost more memory than the sidecar itself, so a type is loaded on first mention.
"""

from __future__ import annotations

import importlib
import importlib.util
import pkgutil

from google.protobuf import descriptor_pool

# Generated messages live in packages named after their protobuf package; nothing else may be imported by name.
_ROOTS = ("envoy.", "xds.", "udpa.", "google.protobuf.")


def load(type_url: str) -> bool:
    """Make the message that `type_url` (`type.googleapis.com/envoy...`) names known to protobuf, or answer False."""
    name = type_url.rpartition("/")[2]
    if _is_known(name):
        return True
    if not name.startswith(_ROOTS):
        return False
    return any(_is_known(name) for module in _modules(name) if importlib.import_module(module))


def _is_known(name: str) -> bool:
    try:
        descriptor_pool.Default().FindMessageTypeByName(name)
    except KeyError:
        return False
    return True


def _modules(name: str) -> list[str]:
    package = name.rpartition(".")[0]
    if not all(part.isidentifier() for part in package.split(".")):
        return []
    try:
        spec = importlib.util.find_spec(package)
    except ModuleNotFoundError:
        return []
    if spec is None or spec.submodule_search_locations is None:
        return []
    found = pkgutil.iter_modules(list(spec.submodule_search_locations), package + ".")
    return [module.name for module in found if module.name.endswith("_pb2")]

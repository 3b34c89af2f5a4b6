"""What containers take from ConfigMaps and Secrets of their namespace. Pure; no message tells a Secret's value."""

from collections.abc import Collection

from mesh.api.core import ConfigMap, Secret
from mesh.api.pod import EnvFromSource, EnvVarSource, KeyRef
from mesh.platforms.base import PlatformError, Surroundings


def key_value(source: EnvVarSource, surroundings: Surroundings, namespace: str) -> str | None:
    """The text that `configMapKeyRef` or `secretKeyRef` names; None when it is not there and may be missing. Raises
    PlatformError, in the kubelet's words."""
    ref, found = _of_key(source, surroundings)
    if found is not None and ref.key in _keys(found):
        return _text(found, ref.key)
    if ref.optional:
        return None
    if found is None:
        raise _not_found("configmap" if source.config_map_key_ref else "secret", ref.name)
    raise PlatformError(f"couldn't find key {ref.key} in {found.KIND} {namespace}/{ref.name}")


def all_values(source: EnvFromSource, surroundings: Surroundings) -> dict[str, str]:
    """The variables that `envFrom` gives. Raises PlatformError, in the kubelet's words."""
    found: ConfigMap | Secret | None
    if source.config_map_ref is not None:
        kind, ref = "configmap", source.config_map_ref
        found = surroundings.config_maps.get(ref.name)
    elif source.secret_ref is not None:
        kind, ref = "secret", source.secret_ref
        found = surroundings.secrets.get(ref.name)
    else:
        raise PlatformError("envFrom has neither configMapRef nor secretRef")
    if found is not None:
        return {source.prefix + key: _text(found, key) for key in _keys(found)}
    if ref.optional:
        return {}
    raise _not_found(kind, ref.name)


def _of_key(source: EnvVarSource, surroundings: Surroundings) -> tuple[KeyRef, ConfigMap | Secret | None]:
    if source.config_map_key_ref is not None:
        return source.config_map_key_ref, surroundings.config_maps.get(source.config_map_key_ref.name)
    if source.secret_key_ref is not None:
        return source.secret_key_ref, surroundings.secrets.get(source.secret_key_ref.name)
    raise PlatformError("valueFrom has none of configMapKeyRef, fieldRef and secretKeyRef; others are not carried out")


def _keys(found: ConfigMap | Secret) -> Collection[str]:
    return found.data if isinstance(found, ConfigMap) else found.entries


def _text(found: ConfigMap | Secret, key: str) -> str:
    if isinstance(found, ConfigMap):
        return found.data[key]
    try:
        return found.entries[key].decode()
    except UnicodeDecodeError:
        # Not chained: that one holds the value.
        raise PlatformError(f"{key} of Secret {found.namespace}/{found.name} is not text in UTF-8") from None


def _not_found(kind: str, name: str) -> PlatformError:
    return PlatformError(f'{kind} "{name}" not found')

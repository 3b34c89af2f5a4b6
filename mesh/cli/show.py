"""Objects as `get` prints them. Pure."""

from datetime import datetime

from mesh.cli.columns import Manifest, headers, row
from mesh.cli.errors import Failure
from mesh.cli.tables import dumped, table


def shown(kind: str, objects: list[Manifest], output: str | None, *, single: bool, now: datetime) -> str:
    """A table, or the objects as JSON or YAML; several in a `List`, as Kubernetes has it."""
    if output is not None:
        return dumped(objects[0] if single else {"apiVersion": "v1", "kind": "List", "items": objects}, output)
    if not objects:
        return f"no {kind} found"
    namespaces = {manifest["metadata"].get("namespace", "") for manifest in objects}
    rows = [row(kind, manifest, now) for manifest in objects]
    if len(namespaces) == 1:
        return table(headers(kind), rows)
    with_namespace = [
        [manifest["metadata"].get("namespace", ""), *cells] for manifest, cells in zip(objects, rows, strict=True)
    ]
    return table(["NAMESPACE", *headers(kind)], with_namespace)


def labels_of(selector: str) -> dict[str, str]:
    """`a=b,c=d`. Raises Failure for anything else."""
    labels = {}
    for part in filter(None, selector.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key:
            raise Failure(f'--selector: "{part}" is not of the form label=value')
        labels[key.strip()] = value.lstrip("=").strip()
    return labels

"""What `meshdrill up` runs when it is given no file."""

from importlib.resources import files

_BOOKINFO = ("bookinfo.yaml", "istio/gateway.yaml", "istio/destination-rules.yaml")


def bookinfo_files() -> list[str]:
    """Bookinfo, its gateway and its destination rules."""
    return [str(files("apps").joinpath(name)) for name in _BOOKINFO]

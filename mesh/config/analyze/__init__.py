"""Messages about objects taken together, as `istioctl analyze` gives them, with Istio's codes.

Pure functions over a set of decoded objects: no store, no proxies, no I/O.
"""

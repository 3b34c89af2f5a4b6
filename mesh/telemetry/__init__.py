"""Istio's metrics derived from what proxies report, for engines that do not speak them. Pure: text in, numbers out."""

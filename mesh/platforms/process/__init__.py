"""Pods as plain processes on loopback: needs no privileges, works anywhere."""

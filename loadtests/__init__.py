"""Locust users and shapes, always run as a subprocess: importing locust monkey-patches the whole process."""

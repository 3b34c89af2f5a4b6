"""Bookinfo's page: calls details and reviews, renders both."""

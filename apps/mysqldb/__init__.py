"""Bookinfo's database of ratings: MariaDB of the machine, with data of its own."""

import ipaddress
import socket
from pathlib import Path

import pytest

from mesh.platforms.base import PlatformError
from mesh.platforms.process.addresses import AddressBlock, free_port, take_block


def test_two_meshes_never_share_a_block(tmp_path: Path) -> None:
    first, second = take_block(tmp_path), take_block(tmp_path)
    assert first.control != second.control
    first.close()
    second.close()


def test_a_block_can_be_had_again_once_it_is_closed_and_not_before(tmp_path: Path) -> None:
    blocks: list[AddressBlock] = []
    with pytest.raises(PlatformError, match="too many meshes"):
        _take_all(tmp_path, blocks)
    returned = blocks.pop()
    returned.close()
    again = take_block(tmp_path)
    assert again.control == returned.control
    for block in [again, *blocks]:
        block.close()


def _take_all(folder: Path, into: list[AddressBlock]) -> None:
    while True:
        into.append(take_block(folder))


def test_pods_have_addresses_of_their_own_within_the_block(tmp_path: Path) -> None:
    block = take_block(tmp_path)
    addresses = [block.take() for _ in range(300)]
    assert len(set(addresses)) == 300
    network = ipaddress.ip_network(f"{block.control.rsplit('.', 2)[0]}.0.0/16")
    assert all(ipaddress.ip_address(address) in network for address in addresses)
    assert block.control not in addresses
    assert addresses[0].endswith(".1.1")
    block.close()


def test_an_address_given_back_is_not_the_next_one_taken(tmp_path: Path) -> None:
    block = take_block(tmp_path)
    address = block.take()
    block.give_back(address)
    assert block.take() != address
    block.close()


def test_a_free_port_can_be_bound(tmp_path: Path) -> None:
    block = take_block(tmp_path)
    port = free_port(block.control, set())
    with socket.socket() as listener:
        listener.bind((block.control, port))
    block.close()

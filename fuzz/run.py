"""The fuzzer's command: guided by coverage where `atheris` is installed, by mutation of what is known otherwise."""

from __future__ import annotations

import argparse
import hashlib
import random
import signal
import sys
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import FrameType

_HANG_S = 5
_LARGEST = 4096
_REPORT_S = 60.0


class Hung(BaseException):
    """An input took longer than it may. Not an Exception, so that no handler of the code under test takes it."""


def main(arguments: Sequence[str]) -> int:
    parser = argparse.ArgumentParser(prog="scripts/fuzz", description=__doc__)
    parser.add_argument("target", choices=("head", "chunks", "http2", "hpack"))
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument(
        "--findings", type=Path, default=Path("fuzz-findings"), help="where inputs go that show a fault"
    )
    parser.add_argument("--replay", type=Path, help="run one input and end")
    parser.add_argument("--no-coverage", action="store_true", help="mutate blindly even where atheris is installed")
    options = parser.parse_args(arguments)
    if options.replay is None and not options.no_coverage and _has_atheris():
        return _guided(options)
    from fuzz.targets import TARGETS

    target = TARGETS[options.target]
    if options.replay is not None:
        target.run(options.replay.read_bytes())
        return 0
    signal.signal(signal.SIGALRM, _hung)
    found: dict[str, Path] = {}
    end = time.monotonic() + options.minutes * 60
    report_at = time.monotonic() + _REPORT_S
    count = 0
    for data in _inputs(target.seeds, target.tokens):
        now = time.monotonic()
        if now >= end:
            break
        if now >= report_at:
            report_at = now + _REPORT_S
            print(f"{options.target}: {count} inputs, {len(found)} findings", flush=True)
        count += 1
        signal.setitimer(signal.ITIMER_REAL, _HANG_S)
        try:
            target.run(data)
        except (Exception, Hung) as error:  # whatever it is, it is what we look for
            where = "".join(traceback.format_tb(error.__traceback__)[-1:]) + type(error).__name__
            if where not in found:
                found[where] = _keep(options.findings, options.target, data)
                print(f"{options.target}: {found[where]}\n{traceback.format_exc()}", flush=True)
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    print(f"{options.target}: {count} inputs, {len(found)} findings", flush=True)
    return 1 if found else 0


def _hung(number: int, frame: FrameType | None) -> None:
    raise Hung


def _keep(folder: Path, name: str, data: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{hashlib.sha256(data).hexdigest()[:16]}"
    path.write_bytes(data)
    return path


def _inputs(seeds: Sequence[bytes], tokens: Sequence[bytes]) -> Iterator[bytes]:
    """The seeds, then mutations of them and of each other without end."""
    yield from seeds
    pool = list(seeds)
    while True:
        data = bytearray(random.choice(pool))
        for _ in range(random.randint(1, 6)):
            _mutate(data, tokens, pool)
        yield bytes(data[:_LARGEST])
        if random.random() < 0.02:
            pool[random.randrange(len(pool))] = bytes(data[:_LARGEST])
            pool[random.randrange(len(pool))] = random.choice(seeds)


def _mutate(data: bytearray, tokens: Sequence[bytes], pool: Sequence[bytes]) -> None:
    at = random.randint(0, len(data))
    kind = random.randrange(6)
    if kind == 0 and at < len(data):
        data[at] ^= 1 << random.randrange(8)
    elif kind == 1:
        data[at:at] = random.choice(tokens)
    elif kind == 2:
        del data[at : at + random.randint(1, 8)]
    elif kind == 3:
        data[at:at] = data[at : at + random.randint(1, 40)] * random.randint(1, 4)
    elif kind == 4:
        data[at:] = random.choice(pool)[at:]
    else:
        data[at : at + 1] = bytes((random.randrange(256),))


def _has_atheris() -> bool:
    try:
        import atheris  # noqa: F401
    except ImportError:
        return False
    return True


def _guided(options: argparse.Namespace) -> int:
    import atheris

    with atheris.instrument_imports(include=["mesh.proxy", "fuzz.http2"]):
        from fuzz.targets import TARGETS

    target = TARGETS[options.target]
    folder: Path = options.findings
    corpus = folder / f"corpus-{options.target}"
    corpus.mkdir(parents=True, exist_ok=True)
    for data in target.seeds:
        (corpus / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    flags = [
        f"-max_total_time={int(options.minutes * 60)}",
        f"-timeout={_HANG_S}",
        f"-max_len={_LARGEST}",
        f"-artifact_prefix={folder}/{options.target}-",
        "-print_final_stats=1",
    ]
    atheris.Setup([sys.argv[0], *flags, str(corpus)], target.run)
    atheris.Fuzz()  # ends the process; libFuzzer's own words say what was found and where it was written
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

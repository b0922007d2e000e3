"""Lends the workers of a Dask cluster for grading, if they have what it needs."""

import contextlib
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor
from pathlib import Path

from autograder.authoring.lab import ROOT
from autograder.grading.grade import code_digest

NEEDS = (
    f"every Dask worker needs the same course as here, under {ROOT} and in its PYTHONPATH, with an"
    " environment like this one, Dask included, and must see the submissions at the same path"
)


class ClusterUnavailable(Exception):
    """A cluster can't be used for grading; the message says why and what to do."""


@contextlib.contextmanager
def cluster(address: str, paths: Iterable[Path]) -> Iterator[tuple[Executor, int]]:
    """An executor for the workers of the Dask scheduler at this address, and their number.

    Args:
        paths: what each of them must see.

    Raises:
        ClusterUnavailable: there is no such cluster, or one of its workers lacks something.
    """
    try:
        from distributed import Client
    except ImportError:
        raise ClusterUnavailable(
            "Dask isn't installed; run `pip install -e '.[grading,cluster]'`"
        ) from None
    try:
        client = Client(address, timeout="10s")
    except (OSError, ValueError):
        raise ClusterUnavailable(
            f"there is no Dask scheduler at {address}; start one by `dask scheduler`, and"
            f" `dask worker --nthreads 1 {address}` on each machine, once per core"
        ) from None
    with client:
        threads = client.nthreads()
        if not threads or max(threads.values()) > 1:
            what = "has workers of several threads" if threads else "has no workers"
            raise ClusterUnavailable(
                f"the Dask scheduler at {address} {what}; start `dask worker --nthreads 1"
                f" {address}` on each machine, once per core"
            )
        expected = code_digest()
        answers = client.run(lacks, list(paths), expected, on_error="return")
        for worker, lacking in answers.items():
            if lacking:
                raise ClusterUnavailable(f"{NEEDS}; {worker} lacks it: {lacking}")
        yield client.get_executor(), len(threads)


def lacks(paths: list[Path], expected: str) -> str:
    """What this machine lacks for grading; empty if nothing."""
    unseen = [str(path) for path in paths if not path.exists()]
    if unseen:
        return f"it doesn't see {', '.join(unseen)}"
    return "" if code_digest() == expected else "it has another version of the code"

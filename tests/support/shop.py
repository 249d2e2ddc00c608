"""A Celery application of somebody else's, with a worker that knows nothing of Celeriac."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHOP = """
import os
from celery import Celery
app = Celery("shop", broker=os.environ["SHOP_BROKER"], backend=os.environ["SHOP_BROKER"])
app.conf.broker_connection_retry_on_startup = True

class OutOfStock(Exception):
    pass

@app.task(name="shop.price")
def price(order):
    if order == -2:
        raise ConnectionError("the price list is away")
    if order < 0:
        raise OutOfStock(f"order {order}")
    return {"cents": order * 100}

@app.task(name="shop.bill")
def bill(order, price):
    return f"order {order}: {price['cents']} cents"
"""


def url_of_shop(broker_url: str) -> str:
    """Another database of the same server."""
    if broker_url.startswith("redis://"):
        return broker_url.rsplit("/", 1)[0] + "/9"
    return f"{broker_url.partition('?')[0]}?virtual_host=9"


@contextmanager
def open_shop(folder: Path, url: str) -> Iterator[None]:
    """A worker of the shop, until the end of the block."""
    (folder / "shop.py").write_text(SHOP)
    command = [sys.executable, "-m", "celery", "-A", "shop", "worker", "--pool", "solo", "--without-gossip"]
    with (folder / "shop.log").open("wb") as log:
        worker = subprocess.Popen(
            [*command, "--without-mingle"], cwd=folder, env={"SHOP_BROKER": url, "PATH": ""}, stdout=log, stderr=log
        )
    try:
        yield
    finally:
        worker.terminate()
        worker.wait(20)

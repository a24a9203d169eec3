"""The group in which the ranks of a run meet, and a process that is alone by itself: on this machine only.

torch would wait for the others at a port of every network interface. Here ranks find each other through a file in a
private folder and talk over loopback. Called by `training` and by both sides of `ranks`, which start the ranks.
"""

import inspect
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from accelerate.state import AcceleratorState
from torch import distributed


def launch_environment(rank: int, ranks: int) -> dict[str, str]:
    """How torchrun, accelerate and DeepSpeed state a process's place among the ranks of one machine."""
    place, all_ = str(rank), str(ranks)
    return {"RANK": place, "LOCAL_RANK": place, "WORLD_SIZE": all_, "LOCAL_WORLD_SIZE": all_}


@contextmanager
def launched_as(rank: int, ranks: int) -> Iterator[None]:
    """This process in the environment of such a rank, for the duration."""
    wanted = launch_environment(rank, ranks)
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def join(folder: Path, device: torch.device) -> None:
    """Meet the other ranks, as many as the environment says; returns when all are there."""
    leave()
    _stay_on_loopback()
    if device.type == "cuda":
        torch.cuda.set_device(device)
    rank, ranks = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = distributed.FileStore(str(folder / "store"), ranks)  # type: ignore[attr-defined]  # as below
    backend = "gloo" if device.type == "cpu" else "nccl"
    distributed.init_process_group(backend, store=store, rank=rank, world_size=ranks)


def meet_nobody(backend: str) -> None:
    """Make this process the only rank of a group, unless it is one of several; until `leave`.

    DeepSpeed looks at a launcher's environment at every step.
    """
    if os.environ.get("WORLD_SIZE", "1") != "1":
        return
    os.environ.update(launch_environment(0, 1))
    if not distributed.is_initialized():
        _stay_on_loopback()
        store = distributed.HashStore()  # type: ignore[attr-defined]  # documented, but missing from torch's types
        distributed.init_process_group(backend, store=store, rank=0, world_size=1)


def leave(*, broken: bool = False) -> None:
    """Leave the group that this process is in, if any, so that it may be in another or none.

    accelerate and DeepSpeed keep what they know of the group, and would take the next one for it. ZeRO-3 also numbers
    modules and parameters on, and the numbers of ranks that are new would be others (DeepSpeed 0.19.8).

    Args:
        broken: Without waiting for ranks that are gone.
    """
    if broken:
        break_up()
    AcceleratorState._reset_state(reset_partial_state=True)
    os.environ.pop("ACCELERATE_USE_DEEPSPEED", None)
    known: Any = sys.modules.get("deepspeed.comm.comm")
    if known is not None and known.cdb is not None:
        if distributed.is_initialized():
            known.destroy_process_group()
        known.cdb = None
    zero: Any = sys.modules.get("deepspeed.runtime.zero.parameter_offload")
    if zero is not None:
        inspect.signature(zero.DeepSpeedZeRoOffload._register_deepspeed_module).parameters["count"].default[0] = 0
        zero.Init.param_id = 0
    if distributed.is_initialized():
        distributed.destroy_process_group()
    if os.environ.get("WORLD_SIZE") == "1":
        for name in launch_environment(0, 1):
            os.environ.pop(name, None)


def break_up() -> bool:
    """End this process's waiting in the group: a rank that died would never answer.

    gloo notices by itself that a connection closed. NCCL does not, nor does a process that still waits for others to
    join: the answer is whether it may be waiting all the same.
    """
    world = distributed.group.WORLD
    if world is None or distributed.get_backend() != "nccl":
        return world is None
    with suppress(RuntimeError):
        world.abort()
    return True


def _stay_on_loopback() -> None:
    if sys.platform == "linux":
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo")
        os.environ.setdefault("NCCL_SOCKET_IFNAME", "lo")

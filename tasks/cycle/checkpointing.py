"""A run's checkpoints: what the next step needs is written at the end of a segment, and read when a run continues.

Leaves out the files and the order in which they are written (`storage.checkpoints`).
"""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.errors import StorageFull
from cyclealign.white_box.white_box import WhiteBox
from storage import checkpoints
from storage.ledger import Ledger
from tasks.context import RunContext
from tasks.cycle.loop import Cycle
from tasks.cycle.progress import LOGGER, say
from tasks.cycle.segments import Segment


@task(name="checkpoint", cache_policy=NO_CACHE)
def save_checkpoint(cycle: Cycle, segment: Segment) -> str:
    """Write everything that the step after the segment needs; returns the weights' digest."""
    return write_checkpoint(cycle.ledger, cycle.run_name, segment.last, cycle.white_box)


def write_checkpoint(ledger: Ledger, run_name: str, step: int, white_box: WhiteBox) -> str:
    """Write what `step` needs, and post a journal that got long; returns the weights' digest."""
    digest = white_box.weights_sha256()
    checkpoints.write(ledger, run_name, step, white_box.optimizer_steps, digest, white_box.save_checkpoint)
    post_if_grown(ledger)
    return digest


def post_if_grown(ledger: Ledger) -> None:
    """Post what was recorded where that is much; a disk without room for a second ledger does not stop a run."""
    try:
        ledger.post_if_grown()
    except StorageFull as error:
        LOGGER.warning("%s", error)


def go_back(context: RunContext, white_box: WhiteBox) -> int:
    """Load the run's last checkpoint, if it has one; returns the next step to run."""
    found = checkpoints.latest(context.ledger, context.name)
    if found is None:
        return 0
    white_box.load_checkpoint(context.ledger.home / found.path)
    say(f"Checkpoint before step {found.step + 1} loaded; recorded rounds after it are replayed, not asked again")
    return found.step

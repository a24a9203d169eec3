"""A run's checkpoints: what the next step needs is written at the end of a segment, and read when a run continues.

Leaves out the files and the order in which they are written (`storage.checkpoints`).
"""

from prefect import task
from prefect.cache_policies import NO_CACHE

from cyclealign.models.white_box import WhiteBox
from storage import checkpoints
from storage.checkpoints import NewCheckpoint
from tasks.context import RunContext
from tasks.cycle import Cycle
from tasks.progress import say
from tasks.segments import Segment


@task(name="checkpoint", cache_policy=NO_CACHE)
def save_checkpoint(cycle: Cycle, segment: Segment) -> str:
    """Write everything the next step needs, then a snapshot of the ledger for readers; returns the weights' digest."""
    digest = cycle.white_box.weights_sha256()
    checkpoint = NewCheckpoint(cycle.run_name, segment.last, cycle.white_box.optimizer_steps, digest)
    checkpoints.write(cycle.ledger, checkpoint, cycle.white_box.save_checkpoint)
    cycle.ledger.publish_snapshot()
    return digest


def go_back(context: RunContext, white_box: WhiteBox) -> int:
    """Load the run's last checkpoint, if it has one; returns the next step to run."""
    found = checkpoints.latest(context.ledger, context.name)
    if found is None:
        return 0
    white_box.load_checkpoint(found.folder)
    say(
        f"Checkpoint before step {found.step + 1} loaded; recorded rounds after it are replayed, not asked again"
    )
    return found.step

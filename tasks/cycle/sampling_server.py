"""Gives white boxes the vLLM server that samples for them where the settings say so, and looks for it in time.

Leaves out how it is spoken to (`cyclealign.white_box.vllm_server`).
"""

from pathlib import Path
from typing import TypeVar

from cyclealign.offline.artifacts import WHITE_BOX
from cyclealign.settings import Settings, WhiteBoxSettings
from cyclealign.white_box.vllm_server import VllmServer
from cyclealign.white_box.white_box import WhiteBox
from storage import runs
from tasks.context import RunContext
from tasks.models import local_model

Box = TypeVar("Box", bound=WhiteBox)


def sampling_by(settings: Settings, white_box: Box) -> Box:
    """The white box, which asks the server of these settings wherever a sampling engine is `vllm`."""
    white_box.server = VllmServer(settings.white_box.vllm)
    return white_box


def require_sampler(context: RunContext) -> None:
    """The server of a run whose cycle samples there is looked for before anything is built or loaded.

    Raises:
        EndpointRefused: it cannot be reached or refuses the key.
        ModelError: it serves another model, or one for shorter texts.
    """
    status = runs.status(context.ledger, context.name)[0]
    if context.settings.white_box.sampling.engine == "vllm" and status.step < status.steps:
        served_model(context.settings.white_box, context.home)


def served_model(white_box: WhiteBoxSettings, home: Path) -> str:
    """The name of the white box's base model on its server.

    Raises:
        EndpointRefused: the server cannot be reached or refuses the key.
        ModelError: it serves another model, or one for shorter texts.
    """
    path = Path(WHITE_BOX) if white_box.model == "world" else local_model(white_box.model, home)
    return VllmServer(white_box.vllm).require(path.name if path else white_box.model, white_box.max_length)

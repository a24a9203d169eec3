"""Sends three calls through a Batch API until it is killed: `batch_program.py HOME URL`."""

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
sys.path.insert(0, str(ROOT))

from storage.ledger import Ledger  # noqa: E402
from tests.tasks.model_server import ModelServer  # noqa: E402
from tests.tasks.test_batching import channel, request  # noqa: E402

server = ModelServer(lambda _body: "")
server.url = sys.argv[2]
channel(Ledger(Path(sys.argv[1])), server).outcomes([request(number) for number in range(3)])

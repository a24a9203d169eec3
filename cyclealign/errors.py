"""Every error that a user of CycleAlign can meet. Each message says what was found, what was expected, what to do.

    CycleAlignError
    ├── UsageError                    the command, the profile or a setting is wrong (exit code 2)
    │   ├── ProfileInvalid            a profile or an override does not validate
    │   ├── SettingsChanged           a run of this name exists with other settings
    │   └── RunUnknown                no run of this name in the ledger
    ├── DataError                     a data file is missing, broken or not HH-RLHF
    ├── ModelError                    a model cannot be found, loaded or used as asked
    ├── TrainingDiverged              a loss or gradient is not finite, or exploded
    ├── DeviceMemoryFull              a phase of a run does not fit into a device's memory
    ├── RankLost                      a rank of a run failed or died before the run ended
    ├── GridIncomplete                runs of a grid did not finish
    ├── LedgerError                   the ledger cannot be used
    │   ├── LedgerForeign             the file is not a ledger of this version
    │   ├── LedgerOnNetwork           the file would lie on a network file system
    │   ├── LedgerConflict            another ledger holds other content under the same keys
    │   └── StorageFull               the disk is full or read-only
    ├── PrefectUnreachable            the Prefect server stopped answering while a flow ran
    ├── RunPaused                     nothing is wrong with the run; it continues when the cause is gone (exit code 3)
    │   ├── BudgetReached             the next call could exceed the cap
    │   └── EndpointRefused           key, quota or model name refused by the endpoint
    └── CallFailed                    one API call did not bring an answer
        ├── CallTransient             worth another attempt (429, 5xx, connection, timeout)
        └── CallRejected              this request will never be accepted (400, content filter)

Foreign exceptions are translated where they enter (`cyclealign.black_box.endpoint`, `storage.ledger`, …) and
raised outside the `except` block, so that `__context__` keeps neither keys nor request headers.
"""


class CycleAlignError(Exception):
    """Base of all errors below; the command line prints its message without a traceback."""

    exit_code = 1


class UsageError(CycleAlignError):
    """The command, the profile or a setting is wrong."""

    exit_code = 2


class ProfileInvalid(UsageError):
    """A profile file or a `--set` override does not validate; the message lists every problem found."""


class SettingsChanged(UsageError):
    """A run of this name exists with other settings; the message lists the differences."""


class RunUnknown(UsageError):
    """The ledger has no run of this name; the message lists those it has."""


class DataError(CycleAlignError):
    """A data file is missing, broken or not in HH-RLHF's format."""


class ModelError(CycleAlignError):
    """A model, tokenizer or adapter cannot be found, loaded or used as asked."""


class TrainingDiverged(CycleAlignError):
    """A loss or a gradient is not finite or exploded; the message names step, round and prompt."""


class DeviceMemoryFull(CycleAlignError):
    """A phase does not fit into a device's memory; the message names it, what torch found, and what to set."""


class RankLost(CycleAlignError):
    """A rank of a run failed or died before the run ended; the message names it and why."""


class GridIncomplete(CycleAlignError):
    """Runs of a grid did not finish; the message names them and why, the others are complete."""


class LedgerError(CycleAlignError):
    """The ledger cannot be used; nothing stored in it is lost."""


class LedgerForeign(LedgerError):
    """The file in the ledger's place is not a ledger of this version."""


class LedgerOnNetwork(LedgerError):
    """The ledger would lie on a network file system, where locks cannot be relied on."""


class LedgerConflict(LedgerError):
    """Another ledger cannot be merged: it holds other content under the same keys, which the message names."""


class StorageFull(LedgerError):
    """The disk is full or read-only; what was committed is safe."""


class PrefectUnreachable(CycleAlignError):
    """The Prefect server stopped answering while a flow ran."""


class RunPaused(CycleAlignError):
    """The run stopped cleanly and continues with the same command once the cause is gone."""

    exit_code = 3


class BudgetReached(RunPaused):
    """The worst case of the next call does not fit under `black_box.budget_usd`."""


class EndpointRefused(RunPaused):
    """The endpoint refuses every call: key missing or revoked, quota exhausted, model unknown.

    Args:
        message: What happened and what to do, without any part of the request's headers.
        kind: A short stable word for the ledger, for example `key`, `quota`, `model`.
        http_status: The HTTP status, when there was one.
    """

    def __init__(self, message: str, *, kind: str = "refused", http_status: int | None = None) -> None:
        super().__init__(message)
        self.kind = kind
        self.http_status = http_status


class CallFailed(CycleAlignError):
    """One API call brought no answer.

    Args:
        message: What happened, without any part of the request's headers.
        kind: A short stable word for the ledger, for example `rate_limit`, `timeout`, `connection`.
        http_status: The HTTP status, when there was one.
        retry_after: Seconds the server asked to wait, when it said so.
        billed: Whether the server may have charged for it, so that its reserve counts as spent.
        raw: The body, when there was one with HTTP status 200 that could not be read.
    """

    def __init__(  # noqa: PLR0913  one value per thing the ledger records of a failed attempt
        self,
        message: str,
        *,
        kind: str = "failed",  # a default only because exceptions are unpickled from their message alone
        http_status: int | None = None,
        retry_after: float | None = None,
        billed: bool = False,
        raw: str | None = None,
    ) -> None:
        super().__init__(message)
        self.kind = kind
        self.http_status = http_status
        self.retry_after = retry_after
        self.billed = billed
        self.raw = raw


class CallTransient(CallFailed):
    """Worth another attempt: 429, 408, 409, 5xx, connection errors, timeouts, unreadable bodies."""


class CallRejected(CallFailed):
    """This request will never be accepted as it is: 400, 413, 422, content filter."""

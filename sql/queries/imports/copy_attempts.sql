-- Takes over the attempts of the other ledger under numbers of this one.
insert into api_attempts by name
select theirs.* exclude (attempt)
from other.api_attempts as theirs
anti join api_attempts as ours
    on
        theirs.call_key = ours.call_key
        and theirs.run_name = ours.run_name
        and theirs.process_host = ours.process_host
        and theirs.process_id = ours.process_id
        and theirs.started_at = ours.started_at
order by theirs.attempt

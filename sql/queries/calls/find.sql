-- A call and what came back.
-- Parameters: $call_key.
-- One row per call of that key: one or none.
select
    call_key,
    run_name,
    state,
    raw,
    content,
    refusal,
    finish_reason,
    served_model,
    prompt_tokens,
    completion_tokens,
    cost_usd,
    verdict
from api_calls
where call_key = $call_key

-- Notes what reading an answer said: accepted, or why not.
-- Parameters: $call_key, $verdict.
update api_calls
set verdict = $verdict
where call_key = $call_key

-- Notes that an attempt was answered, and its cost.
-- Parameters: $attempt, $cost_usd.
-- One row per attempt of that number: the key of its call.
update api_attempts
set
    state = 'answered',
    cost_usd = $cost_usd,
    http_status = 200,
    ended_at = now()
where attempt = $attempt
returning call_key

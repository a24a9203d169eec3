-- Notes that an attempt brought no answer.
-- Parameters: $attempt, $failure, $http_status, $cost_usd.
update api_attempts
set
    state = 'failed',
    failure = $failure,
    http_status = $http_status,
    cost_usd = $cost_usd,
    ended_at = now()
where attempt = $attempt

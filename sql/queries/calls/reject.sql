-- Notes that the endpoint will never accept a call as it is.
-- Parameters: $attempt.
update api_calls
set
    state = 'rejected',
    answered_at = now()
where
    state = 'open'
    and call_key in (select call_key from api_attempts where attempt = $attempt)

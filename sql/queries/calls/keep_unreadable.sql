-- Keeps a body with status 200 that could not be read with its attempt.
-- Parameters: $attempt, $raw.
update api_attempts
set raw = $raw
where attempt = $attempt

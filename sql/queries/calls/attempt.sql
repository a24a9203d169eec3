-- An attempt that another process began.
-- Parameters: $attempt.
-- One row per attempt of that number: one or none.
select * exclude (slot, request)
from attempts
where attempt = $attempt

-- Notes that a call is about to be sent for the first time; one that is known stays as it is.
-- Parameters: $call_key, $run_name, $purpose, $model, $origin, $slot, $step, $round, $ask, $request.
insert into api_calls (
    call_key, run_name, purpose, model, origin, slot, step, round, ask, request, state, asked_at
)
values (
    $call_key, $run_name, $purpose, $model, $origin, $slot, $step, $round, $ask, $request, 'open', now()
)
on conflict do nothing

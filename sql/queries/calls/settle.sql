-- Keeps what came back for a call. A call that has an answer keeps it: that one may have been used already.
-- Parameters: $call_key, $state, $raw, $content, $refusal, $finish_reason, $served_model, $prompt_tokens,
-- $completion_tokens, $cost_usd.
update api_calls
set
    state = $state,
    raw = $raw,
    content = $content,
    refusal = $refusal,
    finish_reason = $finish_reason,
    served_model = $served_model,
    prompt_tokens = $prompt_tokens,
    completion_tokens = $completion_tokens,
    cost_usd = $cost_usd,
    answered_at = now()
where call_key = $call_key and state <> 'answered'

-- Keeps a person's verdict; one by the same person on the same pair is replaced.
-- Parameters: $comparison_id, $first_generation_id, $second_generation_id, $annotator, $verdict.
insert into comparisons (
    comparison_id, first_generation_id, second_generation_id, judge, judge_kind, verdict, compared_at
)
values ($comparison_id, $first_generation_id, $second_generation_id, $annotator, 'person', $verdict, now())
on conflict (comparison_id) do update set
    first_generation_id = excluded.first_generation_id,
    second_generation_id = excluded.second_generation_id,
    verdict = excluded.verdict,
    compared_at = excluded.compared_at

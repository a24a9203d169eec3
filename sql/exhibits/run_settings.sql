-- What a run is: profile, seed, settings, code and machine, how far it got and what it left behind.
-- Parameters: $run_name.
-- One row per run (none for an unknown name); elapsed_seconds runs from the first start to the end.
with progress as (
    select
        count(distinct rounds.step) as steps_done,
        count(*) as rounds
    from rounds
    where rounds.run_name = $run_name
),

too_long as (
    select count(distinct sampled_rounds.step) as prompts
    from sampled_rounds
    where sampled_rounds.run_name = $run_name and sampled_rounds.cut
),

-- those of a baseline, which has no rounds
optimized as (
    select count(*) as steps_done
    from optimizer_steps
    where optimizer_steps.run_name = $run_name
)

select
    runs.run_name,
    runs.profile,
    runs.seed,
    runs.settings,
    runs.settings_digest,
    runs.steps,
    progress.steps_done + optimized.steps_done as steps_done,
    progress.rounds,
    too_long.prompts as cut_prompts,
    runs.state,
    runs.state_reason,
    runs.git_commit,
    runs.package_versions,
    runs.machine,
    runs.source_run,
    runs.kind,
    runs.baseline,
    runs.adapter_path,
    runs.weights_sha256,
    runs.created_at,
    runs.finished_at,
    epoch(runs.finished_at) - epoch(runs.created_at) as elapsed_seconds
from runs
cross join progress
cross join optimized
cross join too_long
where runs.run_name = $run_name;

"""Commands of the evaluation: systems on held-out prompts, and the judge that ranked. Part of the command line
(`cli.main`).
"""

import click

SYSTEM_FORMS = "LABEL=run:NAME, LABEL=model:FOLDER_OR_HUB_NAME or LABEL=api:MODEL@BASE_URL"


@click.command()
@click.argument("run")
@click.option("--system", "systems", multiple=True, metavar="LABEL=…", help=f"{SYSTEM_FORMS}; repeatable.")
@click.option("--judge", is_flag=True, help="Also have the pairwise judge compare the trained model with each other.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override a setting of the evaluation; repeatable."
)
def evaluate(run: str, systems: tuple[str, ...], judge: bool, assignments: tuple[str, ...]) -> None:
    """Evaluate a run's model before and after, and other systems beside it; what did not change is reused."""
    from cli.local import in_process
    from cyclealign.compared_systems import parse_system
    from cyclealign.profiles import parse_overrides
    from tasks.context import require_run

    overrides = parse_overrides(assignments)
    parsed = [parse_system(text) for text in systems]
    require_run(run)
    in_process("flows.evaluation:evaluate", run=run, systems=parsed, judge=judge, overrides=overrides)
    from tasks.evaluation.publication import print_end  # behind the settings that Prefect reads at its import
    from tasks.evaluation.system_publication import print_systems

    print_end(run)
    print_systems(run)


@click.command()
@click.argument("run")
@click.option(
    "--share", default=0.1, show_default=True, type=click.FloatRange(0, 1, min_open=True), help="Of its rankings."
)
@click.option("--seed", default=0, show_default=True, help="Which rankings, in which orders.")
@click.option(
    "--set", "assignments", multiple=True, metavar="KEY=VALUE", help="Override how calls are made; repeatable."
)
def audit(run: str, share: float, seed: int, assignments: tuple[str, ...]) -> None:
    """Ask a share of a run's rankings again in another order: is its judge consistent, or swayed by order or length."""
    from cli.local import in_process
    from cyclealign.profiles import parse_overrides
    from tasks.context import require_run

    overrides = parse_overrides(assignments)
    require_run(run)
    in_process("flows.audit:audit", run=run, share=share, seed=seed, overrides=overrides)
    from tasks.evaluation.audit_publication import print_audit  # behind the settings that Prefect reads at its import

    print_audit(run)

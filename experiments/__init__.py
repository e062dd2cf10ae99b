"""Experiments: one module a study, each with `run(config, run)` (see `dfx.runs.Run`)."""

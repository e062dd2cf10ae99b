"""Experiments: a module or package for each study, with `run(config, run)` (see `dfx.runs.Run`).

Beside them: what starts them (`run`, `cli`, `launch`), and in `shared` what several of them use.
"""

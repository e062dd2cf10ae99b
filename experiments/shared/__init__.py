"""What several studies use: laws, ensembles of trained nets, solvers in stacks, judges."""

"""What the claims of the study `subspace_clustering` cite."""

PAPER = "Wang et al. 2024"
DERIVED, BEFORE = "derived", "measured before"

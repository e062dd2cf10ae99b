"""What the claims of the study `score_or_flow` cite."""

PAPER = "Vuong et al. 2025"
DERIVED = "derived"

"""What the claims of the study `gaussian_painters` cite."""

FIRST, SECOND = "arXiv 2303.02490", "arXiv 2412.09726"
TABLES = f"{SECOND}, its tables"
DERIVED = "derived"

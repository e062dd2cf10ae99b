"""dfx: theory-driven research on diffusion and flow generative models."""

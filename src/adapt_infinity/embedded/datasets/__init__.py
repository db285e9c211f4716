"""The embedded datasets, one file each: `SKILLS`, what it teaches, and `draw(skill, fold, rng)`, one idea."""

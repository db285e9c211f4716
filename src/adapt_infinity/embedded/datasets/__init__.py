"""The embedded datasets, one file each: `SKILLS`, the table of what it teaches, and `draw(skill, fold, rng)`, one idea."""

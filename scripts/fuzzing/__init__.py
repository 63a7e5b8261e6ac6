"""The inputs of `fuzz.py`: valid ones of each kind, the damage done to them, and how jinn reads them."""

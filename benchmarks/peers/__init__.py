"""Other implementations of Genie beside ours: the same frames, clips and window, in turn in one run on one machine."""

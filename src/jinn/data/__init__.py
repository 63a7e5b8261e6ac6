"""Video files, environments and a synthetic game -> a frame store -> clips.

`ingest` turns sources into a store, `FrameStore` reads it, `ClipSampler` samples training clips from it and
`evenly_spaced_clips` lists the clips for evaluation.
"""

"""From a heap of videos that nobody looked at to clips worth training on, as the paper made its data set.

`pipeline` runs the stages on one machine or on a cluster. Each is a function in a file of its own that is of use by
itself: what a film is (`probe`), its shots (`shots`), its clips and what they are like (`scan`), which show the same
(`duplicates`), and which are left out and why (`rules`). `clip` holds a clip and the table of all clips.
"""

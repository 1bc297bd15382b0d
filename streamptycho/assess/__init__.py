"""How good a reconstruction is while it runs: figures, findings with reason and remedy, and a verdict in plain words.

Sources: M. van Heel and M. Schatz, J. Struct. Biol. 151 (2005) 250, for the ring correlation and its threshold; the curl of
the centres of mass as a measure of orientation is common in 4D-STEM (py4DSTEM: B. H. Savitzky et al., Microsc. Microanal. 27
(2021) 712).
"""

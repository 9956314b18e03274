"""Answer requests of other programs: which model, how it is loaded, what a request becomes."""

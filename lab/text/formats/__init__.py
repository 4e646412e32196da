"""The formats of a corpus: how the rows of files and of hub data sets are read as text."""

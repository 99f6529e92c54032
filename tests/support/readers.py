"""Which readers a test is about."""

from harness.readers import benchmarked, reader_class

OF_ARRAYS = [name for name in benchmarked() if reader_class(name).stored_as is None]
"""Those that read an array wherever it stands; the others read a repository that has to be written beside it."""

"""The verbs of ``gammer``, one file each: ``add_arguments`` and ``main``."""

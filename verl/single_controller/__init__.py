"""One driver program that calls methods of many worker processes as if they were one object.

``dispatch`` and ``worker``, on which worker classes build, import without Ray.
"""

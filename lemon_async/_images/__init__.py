"""Results: pictures, their downloads and their files. Begin with `image.Image`, then `downloads.Downloads`.

A new check of what arrives goes into `lemon_async._formats.pictures`; a field of file names into `naming.py`.
"""

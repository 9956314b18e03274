"""The store: one folder for each model, one manifest for each file.

    manifest.py   Entry: what the manifest of a file says
    models.py     list, find and remove models
    adopt.py      record a finished file; bring a local file into the store
    make.py       convert or quantize into the store
    recode.py     a checkpoint to any type in one pass
    verify.py     compare a file with its manifest
    others.py     the files of other programs
    describe.py   a header as the lines of `g4 show`

models.find_model_file finds the file that a MODEL argument means, and says why it is that file.
"""

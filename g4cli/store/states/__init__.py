"""Saved states: what llama.cpp holds after a prompt, on disk, so that it is not read again.

    keys.py     which states belong to which model and context; the name of a prefix of tokens
    rows.py     cut a state into blocks of tokens, and put it together again
    files.py    the files of a state and of a block, written atomically and checked when read
    folder.py   all states of a machine: find, read, write, remove, limit
    limits.py   how much of the disk they may take
    model_id.py what a model file is known by

Nothing here knows llama.cpp. A state is bytes; what they mean is the engine's affair.
"""

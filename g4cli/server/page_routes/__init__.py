"""The routes of the page in the browser: its files, conversations, answers, media and models.

files           /, /page/...: what the browser loads
access          who may call the routes below /page/api: the token against forged requests, origins
markdown        answers as HTML: rendered, cleaned, code in colors
turns           a turn as the page gets it
answers         begin, watch, stop an answer
conversations   list, search, open, branch, delete; images and sounds
drawings        SVG in answers: checked, repaired, in an iframe that runs nothing
models          models on offer
stream          Markdown that arrives bit by bit as blocks, of which only the last one changes
"""

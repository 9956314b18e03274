"""Gemma 4 turns as text and back: rendering a conversation, parsing an answer. Does no I/O.

messages   what a conversation is made of
render     conversation -> parts of a prompt, Gemma 4's format to the letter
tools      tool declarations and calls in Gemma 4's own notation
template   the file's Jinja template: is it a known one, and what does it render
reply      a streamed answer -> text, thoughts, tool calls
"""

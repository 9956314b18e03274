"""Layers of a model on other machines, through llama.cpp's RPC backend.

protocol.py      a client of llama.cpp's RPC protocol that only asks: version, devices, memory
workers.py       is there a worker, of the same build, and what memory has it
tunnel.py        a tunnel by ssh to a worker
relay.py         what `g4 worker` puts before llama.cpp's server: one client at a time
keepalive.py     connections end when the other machine is gone
server.py        `g4 worker`: the relay, and llama.cpp's server in a child process
server_child.py  that child process

Only server_child loads llama.cpp. The engine's process registers workers in `runtime.llama.rpc`.
"""
